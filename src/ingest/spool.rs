//! The spool: compressed bodies on disk, from the network's last byte until they are published.
//!
//! A file has no name from the moment it is made, so whatever happens to the program nothing is
//! left behind. The spool as a whole is bounded, and so is every file, compressed and not.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use tokio::io::AsyncWriteExt as _;
use uuid::Uuid;

/// Largest window a compressed body may ask for (a power of two): 16 MiB of memory.
const WINDOW_LOG_MAX: u32 = 24;

/// How large things may become, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A body, as sent.
    pub body: u64,
    /// All bodies on disk.
    pub spool: u64,
    /// A file, decompressed: it must be smaller.
    pub file: u64,
    /// A record.
    pub record: usize,
}

/// A directory for bodies, and how much of it is in use.
#[derive(Debug, Clone)]
pub struct Spool {
    dir: PathBuf,
    limits: Limits,
    used: Arc<AtomicU64>,
}

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// Zstandard.
    Zstd,
    /// Gzip.
    Gzip,
}

/// Why a body cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// It is larger than any may be.
    #[error("the body is larger than {0} bytes")]
    TooLarge(u64),
    /// The spool is full; later there may be room.
    #[error("the spool is full")]
    Full,
    /// The disk failed, or is full.
    #[error("the spool cannot be written: {0}")]
    Io(#[from] std::io::Error),
}

/// A body on its way to disk.
#[derive(Debug)]
pub struct Incoming {
    file: tokio::fs::File,
    share: Share,
    limits: Limits,
}

/// A whole body on disk.
#[derive(Debug)]
pub struct Spooled {
    file: File,
    share: Share,
    limits: Limits,
    encoding: Encoding,
}

/// A part of the spool, given back when it is dropped.
#[derive(Debug)]
struct Share {
    bytes: u64,
    used: Arc<AtomicU64>,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Spool {
    /// A spool in this directory, which exists and can be written.
    pub fn open(dir: PathBuf, limits: Limits) -> Result<Self, SpoolError> {
        let spool = Self {
            dir,
            limits,
            used: Arc::default(),
        };
        // Told at the start, not by the first upload.
        spool.nameless(Uuid::nil())?;
        Ok(spool)
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Begins a body; `name` is a fresh id.
    pub fn begin(&self, name: Uuid) -> Result<Incoming, SpoolError> {
        Ok(Incoming {
            file: tokio::fs::File::from_std(self.nameless(name)?),
            share: Share {
                bytes: 0,
                used: Arc::clone(&self.used),
            },
            limits: self.limits,
        })
    }

    fn nameless(&self, name: Uuid) -> Result<File, SpoolError> {
        let path = self
            .dir
            .join(format!(".upload-{name}-{}", std::process::id()));
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(file)
    }
}

impl Incoming {
    /// Adds bytes of the body.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let more = bytes.len() as u64;
        if self.share.bytes + more > self.limits.body {
            return Err(SpoolError::TooLarge(self.limits.body));
        }
        let spool = self.limits.spool;
        self.share
            .used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(more).filter(|used| *used <= spool)
            })
            .map_err(|_| SpoolError::Full)?;
        self.share.bytes += more;
        self.file.write_all(bytes).await?;
        Ok(())
    }

    /// The body is whole.
    pub async fn finish(mut self, encoding: Encoding) -> Result<Spooled, SpoolError> {
        self.file.flush().await?;
        Ok(Spooled {
            file: self.file.into_std().await,
            share: self.share,
            limits: self.limits,
            encoding,
        })
    }
}

impl Spooled {
    /// Bytes of the body as sent.
    pub fn bytes(&self) -> u64 {
        self.share.bytes
    }

    /// The bounds it was taken under.
    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    /// The file, decompressed, from its beginning. Reading fails with [`FileTooLarge`] beyond
    /// the bound, and with [`DiskFault`] if it is the disk that fails and not the body.
    ///
    /// [`FileTooLarge`]: std::io::ErrorKind::FileTooLarge
    pub(super) fn reader(&mut self) -> std::io::Result<Box<dyn Read + '_>> {
        self.file.seek(SeekFrom::Start(0))?;
        let disk = BufReader::with_capacity(128 * 1024, Disk(&self.file));
        let bound = self.limits.file;
        Ok(match self.encoding {
            Encoding::Identity => Box::new(Bounded::new(disk, bound)),
            // Both go on after the end of what was compressed, as their commands do: what is
            // compressed in parts and put together is read whole.
            Encoding::Zstd => {
                let mut source = zstd::stream::read::Decoder::with_buffer(disk)?;
                source.window_log_max(WINDOW_LOG_MAX)?;
                Box::new(Bounded::new(source, bound))
            }
            Encoding::Gzip => Box::new(Bounded::new(MultiGzDecoder::new(disk), bound)),
        })
    }
}

/// The disk failed, and not the body: another try may succeed.
#[derive(Debug, thiserror::Error)]
#[error("the spool cannot be read: {0}")]
pub(super) struct DiskFault(std::io::Error);

struct Disk<'a>(&'a File);

impl Read for Disk<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer).map_err(|error| {
            if error.kind() == std::io::ErrorKind::Interrupted {
                error
            } else {
                std::io::Error::other(DiskFault(error))
            }
        })
    }
}

/// Refuses to give so many bytes: a small body may hold a file without end.
struct Bounded<R> {
    source: R,
    given: u64,
    bound: u64,
}

impl<R> Bounded<R> {
    fn new(source: R, bound: u64) -> Self {
        Self {
            source,
            given: 0,
            bound,
        }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.source.read(buffer)?;
        self.given = self.given.saturating_add(read as u64);
        if self.given < self.bound || read == 0 {
            return Ok(read);
        }
        Err(std::io::Error::new(
            std::io::ErrorKind::FileTooLarge,
            format!("the file has {} bytes or more, decompressed", self.bound),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        body: 1000,
        spool: 1500,
        file: 5000,
        record: 100,
    };

    async fn spooled(
        spool: &Spool,
        body: &[u8],
        encoding: Encoding,
    ) -> Result<Spooled, SpoolError> {
        let mut incoming = spool.begin(Uuid::nil())?;
        for part in body.chunks(7) {
            incoming.write(part).await?;
        }
        incoming.finish(encoding).await
    }

    fn text(spooled: &mut Spooled) -> std::io::Result<String> {
        let mut text = String::new();
        spooled.reader()?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[tokio::test]
    async fn a_body_comes_back_decompressed_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path().to_owned(), LIMITS).unwrap();
        let body = zstd::encode_all(&b"[1, 2]"[..], 3).unwrap();
        let mut zstd = spooled(&spool, &body, Encoding::Zstd).await.unwrap();
        assert_eq!(text(&mut zstd).unwrap(), "[1, 2]");
        // A second reading begins anew.
        assert_eq!(text(&mut zstd).unwrap(), "[1, 2]");
        let mut plain = spooled(&spool, b"[]", Encoding::Identity).await.unwrap();
        assert_eq!(text(&mut plain).unwrap(), "[]");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(spool.used(), body.len() as u64 + 2);
        drop((zstd, plain));
        assert_eq!(spool.used(), 0);
    }

    #[tokio::test]
    async fn bodies_and_the_spool_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path().to_owned(), LIMITS).unwrap();
        let too_large = spooled(&spool, &[0; 1001], Encoding::Identity).await;
        assert!(matches!(too_large, Err(SpoolError::TooLarge(1000))));
        let held = spooled(&spool, &[0; 900], Encoding::Identity)
            .await
            .unwrap();
        let full = spooled(&spool, &[0; 900], Encoding::Identity).await;
        assert!(matches!(full, Err(SpoolError::Full)));
        drop(held);
        assert!(spooled(&spool, &[0; 900], Encoding::Identity).await.is_ok());
        assert_eq!(spool.used(), 0);
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, text).unwrap();
        encoder.finish().unwrap()
    }

    #[tokio::test]
    async fn what_was_compressed_in_parts_is_read_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path().to_owned(), LIMITS).unwrap();
        let zstd = |text: &[u8]| zstd::encode_all(text, 3).unwrap();
        for (parts, encoding) in [
            ([gzip(b"[1, "), gzip(b"2]")], Encoding::Gzip),
            ([zstd(b"[1, "), zstd(b"2]")], Encoding::Zstd),
        ] {
            let mut whole = spooled(&spool, &parts.concat(), encoding).await.unwrap();
            assert_eq!(text(&mut whole).unwrap(), "[1, 2]");
        }
    }

    #[tokio::test]
    async fn a_small_body_cannot_become_a_large_file() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path().to_owned(), LIMITS).unwrap();
        let zeros = |bytes| " ".repeat(bytes).into_bytes();
        let zstd = |text: Vec<u8>| zstd::encode_all(&text[..], 19).unwrap();
        for (body, encoding, fits) in [
            (zstd(zeros(100_000)), Encoding::Zstd, false),
            (gzip(&zeros(100_000)), Encoding::Gzip, false),
            (zstd(zeros(5000)), Encoding::Zstd, false),
            (zstd(zeros(4999)), Encoding::Zstd, true),
        ] {
            assert!(body.len() < 1000);
            let mut file = spooled(&spool, &body, encoding).await.unwrap();
            match text(&mut file) {
                Ok(_) => assert!(fits),
                Err(error) => {
                    assert!(!fits);
                    assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge);
                }
            }
        }
    }

    #[tokio::test]
    async fn a_body_cut_short_is_told_from_one_that_is_something_else() {
        use std::io::ErrorKind::UnexpectedEof;
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path().to_owned(), LIMITS).unwrap();
        let zstd = zstd::encode_all(&b"[1, 2]"[..], 3).unwrap();
        for (whole, encoding) in [(zstd, Encoding::Zstd), (gzip(b"[1, 2]"), Encoding::Gzip)] {
            for (body, cut) in [
                (whole[..whole.len() - 3].to_vec(), true),
                (whole[..whole.len() / 2].to_vec(), true),
                (b"[1, 2] and nothing compressed".to_vec(), false),
                ([&whole[..], b"and something else"].concat(), false),
            ] {
                let mut body = spooled(&spool, &body, encoding).await.unwrap();
                let error = text(&mut body).unwrap_err();
                assert_eq!(error.kind() == UnexpectedEof, cut, "{encoding:?} {error}");
                assert!(!error.to_string().contains("the spool cannot be read"));
            }
        }
    }
}
