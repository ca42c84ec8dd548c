//! A real Postgres: one server per test process and kind of administrator, one database per
//! test, cloned from a migrated template.
//!
//! The roles are made with the very SQL that `docs/install.md` gives to a DBA. A shell holds
//! the server and ends it when its standard input closes, which happens however the test
//! process ends.

#![allow(
    dead_code,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a harness that cannot go on fails the test; not every test uses all of it"
)]

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use prowler_operator::config::database::{AdminDatabaseArgs, DatabaseUrl, UserDatabaseArgs};
use prowler_operator::store::{AdminStore, Store, migrate};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::sync::OnceCell;

const ROLES: &str = include_str!("../../hack/roles.sql");
const GRANTS: &str = include_str!("../../hack/grants.sql");

/// A migrated database of its own for one test.
#[derive(Clone)]
pub struct Db {
    name: String,
    server: &'static Server,
}

/// A Postgres server, as long as this process lives.
pub struct Server {
    port: u16,
    dir: PathBuf,
    bin: PathBuf,
    administrator: &'static str,
    /// Held, never read: the shell ends the server when this pipe closes.
    _shell: Child,
}

/// Who makes roles and databases.
#[derive(Clone, Copy)]
pub enum Administrator {
    /// The superuser of one's own Postgres.
    Superuser,
    /// What managed Postgres gives: CREATEROLE and CREATEDB, nothing more.
    Plain,
}

impl Db {
    /// A migrated database of its own, on the process's server.
    pub async fn new() -> Self {
        Self::on(shared(Administrator::Superuser).await).await
    }

    /// As `new`, where roles and database were made without superuser rights.
    pub async fn managed() -> Self {
        Self::on(shared(Administrator::Plain).await).await
    }

    /// A migrated database on a server of its own, which the test may stop or kill.
    pub async fn alone() -> Self {
        let server = Server::start(Administrator::Superuser).await;
        Self::on(Box::leak(Box::new(server))).await
    }

    /// A migrated database on a server of its own that survives a power cut, as a user's does:
    /// for benchmarks, where what that costs must be paid.
    pub async fn durable() -> Self {
        Self::durable_with(&[]).await
    }

    /// The same with further settings of Postgres.
    pub async fn durable_with(settings: &[&str]) -> Self {
        let settings = [&["shared_buffers=1GB"], settings].concat();
        let server = Server::start_with(Administrator::Superuser, &settings).await;
        Self::on(Box::leak(Box::new(server))).await
    }

    /// A database without a schema, with the grants of the installation page.
    pub async fn empty() -> Self {
        let server = shared(Administrator::Superuser).await;
        let name = next_name();
        server.create_database(&name, "template1").await;
        Self { name, server }
    }

    async fn on(server: &'static Server) -> Self {
        let name = next_name();
        server.create_database(&name, "prowler").await;
        Self { name, server }
    }

    /// The store as the program has it.
    pub async fn store(&self) -> Store {
        Store::connect("test", &self.user_args()).await.unwrap()
    }

    /// The schema's owner as the program has it.
    pub async fn admin(&self) -> AdminStore {
        AdminStore::connect("test", &self.admin_args())
            .await
            .unwrap()
    }

    /// What the command line would say of `prowler_user`.
    pub fn user_args(&self) -> UserDatabaseArgs {
        user_args(&self.user_url())
    }

    /// What the command line would say of `prowler_admin`.
    pub fn admin_args(&self) -> AdminDatabaseArgs {
        admin_args(&self.admin_url())
    }

    /// `DATABASE_URL`.
    pub fn user_url(&self) -> String {
        self.url("prowler_user:change-me-user")
    }

    /// `DATABASE_ADMIN_URL`.
    pub fn admin_url(&self) -> String {
        self.url("prowler_admin:change-me-admin")
    }

    /// The server's superuser; no program of ours ever gets it.
    pub fn superuser_url(&self) -> String {
        self.url("postgres")
    }

    /// Where its server listens, on this machine.
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL for another role, `name` or `name:password`.
    pub fn url(&self, role: &str) -> String {
        self.server.url(role, &self.name)
    }

    /// A bare connection as `prowler_user`.
    pub async fn user_conn(&self) -> PgConnection {
        connect(&self.user_url()).await
    }

    /// A bare connection as `prowler_admin`.
    pub async fn admin_conn(&self) -> PgConnection {
        connect(&self.admin_url()).await
    }

    /// A bare connection as the superuser.
    pub async fn superuser_conn(&self) -> PgConnection {
        connect(&self.superuser_url()).await
    }

    /// The server below, to stop and start it.
    pub fn server(&self) -> &'static Server {
        self.server
    }
}

/// A bare connection with `search_path` as the program sets it.
pub async fn connect(url: &str) -> PgConnection {
    let mut conn = PgConnection::connect(url).await.unwrap();
    run(&mut conn, "set search_path = prowler").await;
    conn
}

/// Runs statements; for tests that need no result.
pub async fn run(conn: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(conn)
        .await
        .unwrap_or_else(|error| panic!("{error}\n{sql}"));
}

pub fn user_args(url: &str) -> UserDatabaseArgs {
    UserDatabaseArgs {
        database_url: secret(url),
        database_replica_url: None,
        database_pool_size: 10,
    }
}

pub fn admin_args(url: &str) -> AdminDatabaseArgs {
    AdminDatabaseArgs {
        database_admin_url: secret(url),
        database_admin_replica_url: None,
    }
}

fn secret(url: &str) -> DatabaseUrl {
    url.parse().unwrap()
}

fn next_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn shared(administrator: Administrator) -> &'static Server {
    static SUPERUSER: OnceCell<Server> = OnceCell::const_new();
    static PLAIN: OnceCell<Server> = OnceCell::const_new();
    let cell = match administrator {
        Administrator::Superuser => &SUPERUSER,
        Administrator::Plain => &PLAIN,
    };
    cell.get_or_init(|| Server::start(administrator)).await
}

impl Server {
    async fn start(administrator: Administrator) -> Self {
        // A test's data need not survive the machine.
        let careless = ["fsync=off", "full_page_writes=off", "shared_buffers=64MB"];
        Self::start_with(administrator, &careless).await
    }

    async fn start_with(administrator: Administrator, settings: &[&str]) -> Self {
        let mut server = loop {
            // Another process may take the free port before Postgres does.
            if let Some(server) = Self::try_start(settings).await {
                break server;
            }
        };
        if let Administrator::Plain = administrator {
            let mut conn = connect(&server.url("postgres", "postgres")).await;
            run(&mut conn, "create role dba login createrole createdb").await;
            server.administrator = "dba";
        }
        server.prepare().await;
        server
    }

    /// A server of ours; `None` if its port was taken.
    async fn try_start(settings: &[&str]) -> Option<Self> {
        let bin = binaries();
        let dir = tempfile::Builder::new()
            .prefix("prowler-test-")
            .tempdir()
            .unwrap()
            .keep();
        if is_root() {
            run_to_end(Command::new("chown").arg("postgres:").arg(&dir));
        }
        let data = dir.join("data");
        run_to_end(
            as_server(&bin.join("initdb"))
                .args(["-U", "postgres", "--auth=trust", "--no-sync", "-D"])
                .arg(&data),
        );
        let port = free_port();
        let shell = hold(&bin, &dir, port, settings);
        let server = Self {
            port,
            dir,
            bin,
            administrator: "postgres",
            _shell: shell,
        };
        server.wait_until_up().await.then_some(server)
    }

    /// Roles, and the template that every test's database is cloned from.
    async fn prepare(&self) {
        let mut conn = connect(&self.url(self.administrator, "postgres")).await;
        run(&mut conn, ROLES).await;
        conn.close().await.unwrap();
        self.create_database("prowler", "template1").await;
        migrate::migrate(&admin_args(&self.url("prowler_admin", "prowler")))
            .await
            .unwrap();
    }

    async fn create_database(&self, name: &str, template: &str) {
        let mut conn = connect(&self.url(self.administrator, "postgres")).await;
        run(
            &mut conn,
            &format!("create database {name} template {template}"),
        )
        .await;
        let mut conn = connect(&self.url(self.administrator, name)).await;
        run(&mut conn, GRANTS).await;
        // A template must have no sessions left when it is copied.
        conn.close().await.unwrap();
    }

    fn url(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// Cuts every session, as a crash or a failover does, and leaves the server down.
    pub fn stop(&self) {
        run_to_end(
            as_server(&self.bin.join("pg_ctl"))
                .args(["-m", "immediate", "-w", "stop", "-D"])
                .arg(self.dir.join("data")),
        );
    }

    /// Starts a stopped server again, on the same port.
    pub async fn start_again(&self) {
        std::fs::write(self.dir.join("again"), "").unwrap();
        assert!(self.wait_until_up().await, "the port was taken meanwhile");
    }

    /// False if another server has our port.
    async fn wait_until_up(&self) -> bool {
        let begun = Instant::now();
        let data = self.dir.join("data");
        loop {
            let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            match PgConnection::connect(&self.url("postgres", "postgres")).await {
                Ok(mut conn) => {
                    let directory: String = sqlx::query_scalar("show data_directory")
                        .fetch_one(&mut conn)
                        .await
                        .unwrap();
                    conn.close().await.unwrap();
                    return Path::new(&directory) == data;
                }
                Err(_) if log.contains("Address already in use") => return false,
                Err(error) if begun.elapsed() > Duration::from_secs(30) => {
                    panic!("Postgres did not start: {error}\n{log}");
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

/// A shell that runs the server until its input closes, and removes all traces of it. While the
/// server is stopped it waits for the file `again`.
fn hold(bin: &Path, dir: &Path, port: u16, settings: &[&str]) -> Child {
    let postgres = as_server(&bin.join("postgres"));
    let mut words: Vec<_> = vec![postgres.get_program().to_owned()];
    words.extend(postgres.get_args().map(ToOwned::to_owned));
    Command::new("sh")
        .arg("-c")
        .arg(
            r#"dir=$1; shift
            { while :; do
                "$@" >>"$dir/log" 2>&1
                while [ ! -e "$dir/again" ]; do sleep 0.05; done
                rm "$dir/again"
            done; } </dev/null &
            keeper=$!
            cat >/dev/null
            kill -KILL $keeper
            read -r pid <"$dir/data/postmaster.pid" && kill -QUIT "$pid"
            while [ -e "$dir/data/postmaster.pid" ] && kill -0 "$pid"; do sleep 0.05; done
            rm -rf "$dir""#,
        )
        .arg("sh")
        .arg(dir)
        .args(words)
        .args(["-D"])
        .arg(dir.join("data"))
        .args(["-p", &port.to_string()])
        .args(["-c", "listen_addresses=127.0.0.1"])
        .arg("-c")
        .arg(format!("unix_socket_directories={}", dir.display()))
        .args(["-c", "max_connections=300"])
        .args(settings.iter().flat_map(|setting| ["-c", *setting]))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        // Not in the terminal's group: an interrupt must not reach it before the pipe closes.
        .process_group(0)
        .spawn()
        .unwrap()
}

fn binaries() -> PathBuf {
    let mut found: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("postgres").exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| {
        panic!(
            "These tests need a Postgres server in /usr/lib/postgresql: \
             install Debian's package `postgresql` (15 or newer)."
        )
    })
}

/// Postgres refuses to run as root.
fn as_server(program: &Path) -> Command {
    let mut command;
    if is_root() {
        command = Command::new("setpriv");
        command
            .args([
                "--reuid",
                "postgres",
                "--regid",
                "postgres",
                "--clear-groups",
            ])
            .arg(program);
    } else {
        command = Command::new(program);
    }
    command.current_dir("/");
    command
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // The owner of our own process entry: no libc call needed.
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn run_to_end(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
