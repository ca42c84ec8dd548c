//! A process that publishes one file and says what it took: this program, started again.

use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use prowler_operator::domain::clock::{Clock as _, SystemClock};
use prowler_operator::domain::ids::{ObjectName, ObjectUid, ScanId, TenantId};
use prowler_operator::ingest::spool::{Encoding, Limits, Spool};
use prowler_operator::ingest::{self, Outcome};
use prowler_operator::store::Store;
use prowler_operator::store::publication::{Attempt, Part};

use crate::db::user_args;

/// Marks the arguments of a process that is to publish.
const PUBLISH: &str = "publish";
/// As the server's defaults are.
const LIMITS: Limits = Limits {
    body: 1 << 30,
    spool: 3 << 30,
    file: 32 << 30,
    record: 4 << 20,
};

/// Runs the benchmark, or what a process of its own was started for.
pub fn main(run: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    match Order::given() {
        Some(order) => runtime.block_on(order.execute()),
        None => runtime.block_on(run),
    }
}

/// How many findings are asked for by the environment, for a quick look; otherwise `usual`.
pub fn findings(usual: usize) -> usize {
    std::env::var("FINDINGS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(usual)
}

/// What such a process is to do.
pub struct Order {
    /// `DATABASE_URL`.
    pub database: String,
    pub attempt: Attempt,
    /// A file as it is uploaded.
    pub file: PathBuf,
}

/// What it took.
pub struct Published {
    pub seconds: f64,
    /// KiB resident before, with the file in the spool.
    pub idle: u64,
    /// KiB resident at most.
    pub peak: u64,
    /// Seconds of reading the file, without waiting for the database.
    pub reading: f64,
    /// Seconds of each part, in the order of `Part::ALL`.
    pub parts: Vec<f64>,
}

impl Published {
    pub fn over_idle(&self) -> u64 {
        self.peak.saturating_sub(self.idle)
    }
}

impl Order {
    /// The order this process was started with, if it was.
    fn given() -> Option<Self> {
        let mut words = std::env::args().skip_while(|word| word != PUBLISH).skip(1);
        let mut next = || words.next();
        let database = next()?;
        let [tenant, scan, job] = [next()?, next()?, next()?].map(|id| id.parse().unwrap());
        Some(Self {
            database,
            attempt: Attempt {
                tenant: TenantId(tenant),
                scan: ScanId(scan),
                attempt: 1,
                job: ObjectUid(job),
                job_name: ObjectName {
                    namespace: next()?,
                    name: next()?,
                },
            },
            file: next()?.into(),
        })
    }

    /// Has a process of its own execute it.
    pub fn hand_over(&self) -> Published {
        let Attempt {
            tenant,
            scan,
            job,
            job_name,
            ..
        } = &self.attempt;
        let output = Command::new(std::env::current_exe().unwrap())
            .args([PUBLISH, &self.database])
            .args([tenant.to_string(), scan.to_string(), job.to_string()])
            .args([&job_name.namespace, &job_name.name])
            .arg(&self.file)
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "the publishing process failed");
        let text = String::from_utf8(output.stdout).unwrap();
        let words: Vec<_> = text.split_whitespace().collect();
        let [seconds, idle, peak, reading, ref parts @ ..] = words[..] else {
            panic!("the publishing process said {text:?}");
        };
        Published {
            seconds: seconds.parse().unwrap(),
            idle: idle.parse().unwrap(),
            peak: peak.parse().unwrap(),
            reading: reading.parse().unwrap(),
            parts: parts.iter().map(|part| part.parse().unwrap()).collect(),
        }
    }

    /// Publishes, and prints what it took.
    async fn execute(self) {
        let store = Store::connect("bench", &user_args(&self.database))
            .await
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path().to_owned(), LIMITS).unwrap();
        let mut incoming = spool.begin(SystemClock.uuid7()).unwrap();
        let mut file = std::fs::File::open(&self.file).unwrap();
        let mut part = vec![0; 64 * 1024];
        loop {
            let read = file.read(&mut part).unwrap();
            if read == 0 {
                break;
            }
            incoming.write(&part[..read]).await.unwrap();
        }
        let spooled = incoming.finish(Encoding::Zstd).await.unwrap();

        let idle = resident("VmRSS:");
        // Forgets the peak so far; without the right to, the peak is if anything too high.
        let _ = std::fs::write("/proc/self/clear_refs", "5");
        let started = Instant::now();
        let outcome = ingest::publish(&store, &SystemClock, &self.attempt, spooled)
            .await
            .unwrap();
        let seconds = started.elapsed().as_secs_f64();
        let Outcome::Published(published) = outcome else {
            panic!("{outcome:?}");
        };
        print!("{seconds} {idle} {}", resident("VmHWM:"));
        print!(" {}", published.reading.as_secs_f64());
        for part in Part::ALL {
            print!(" {}", published.spent.on(part).as_secs_f64());
        }
        println!();
    }
}

/// KiB, as the kernel counts them.
fn resident(which: &str) -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix(which))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap()
}
