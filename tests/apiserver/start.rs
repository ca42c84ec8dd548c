//! A controller that starts while its servers fail it waits for them: if it ended, Kubernetes would
//! let it pause longer each time.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::DeleteParams;
use sqlx::Connection as _;
use tokio::time::sleep;

use crate::support::apiserver::ApiServer;
use crate::support::controller::{Operator, Running};
use crate::support::db::{Db, run};
use crate::support::link::Link;

const PATIENCE: Duration = Duration::from_mins(2);

/// Two servers, and a controller that was not started yet.
async fn prepared() -> (&'static ApiServer, Db, Operator) {
    let server = ApiServer::alone().await;
    let database = Db::new().await;
    let operator = Operator::prepare(server, &database, &server.client()).await;
    (server, database, operator)
}

/// Waits for something that the controller comes to.
async fn until(
    operator: &Operator,
    running: &mut Running,
    what: &str,
    mut comes: impl AsyncFnMut() -> bool,
) {
    let begun = Instant::now();
    while !comes().await {
        assert!(
            running.is_running() && begun.elapsed() < PATIENCE,
            "{what}:\n{}",
            operator.log()
        );
        sleep(Duration::from_millis(20)).await;
    }
}

async fn leads(operator: &Operator, running: &mut Running) {
    let says = async || {
        operator
            .metrics()
            .await
            .contains("prowler_operator_leader 1")
    };
    until(operator, running, "it never leads", says).await;
}

#[tokio::test]
async fn an_api_server_that_breaks_off_is_waited_for() {
    let (server, _database, mut operator) = prepared().await;
    let link = Link::to(server.port()).await;
    operator.reroute(|kubeconfig| link.instead(kubeconfig));

    let mut running = operator.start();
    let complained = async || {
        link.cut();
        operator
            .log()
            .contains("Secret prowler-operator-installation was not read")
    };
    until(&operator, &mut running, "it complains", complained).await;
    leads(&operator, &mut running).await;
}

#[tokio::test]
async fn a_database_that_breaks_off_is_waited_for() {
    let (_, database, operator) = prepared().await;
    let mut superuser = database.superuser_conn().await;
    let mut locked = superuser.begin().await.unwrap();
    run(
        &mut locked,
        "lock table installation in access exclusive mode",
    )
    .await;

    let mut running = operator.start();
    let mut breaker = database.superuser_conn().await;
    let broken = async || {
        let waiting = "select pg_terminate_backend(pid) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock'";
        sqlx::query(waiting)
            .fetch_optional(&mut breaker)
            .await
            .unwrap()
            .is_some()
    };
    until(
        &operator,
        &mut running,
        "it asks whose the database is",
        broken,
    )
    .await;
    let complained = async || {
        operator
            .log()
            .contains("whose the database is was not read")
    };
    until(&operator, &mut running, "it complains", complained).await;
    locked.rollback().await.unwrap();
    leads(&operator, &mut running).await;
}

#[tokio::test]
async fn a_secret_that_is_not_there_ends_it_with_a_sentence() {
    let (server, _database, operator) = prepared().await;
    let secrets = Api::<Secret>::namespaced(server.client(), "default");
    let name = "prowler-operator-installation";
    secrets
        .delete(name, &DeleteParams::default())
        .await
        .unwrap();
    let mut running = operator.start();
    let begun = Instant::now();
    while running.is_running() {
        assert!(begun.elapsed() < PATIENCE, "{}", operator.log());
        sleep(Duration::from_millis(20)).await;
    }
    let log = operator.log();
    assert!(
        log.contains("cannot be read; `bootstrap` makes it"),
        "{log}"
    );
}
