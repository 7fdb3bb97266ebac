//! A PostgreSQL server of a test's own: in a temporary folder, with a socket there and no TCP.
//!
//! A program of this package keeps it, and ends it when its input ends, so that no server is left behind by a
//! test that fails, or is killed.

mod server;

use std::{
    env,
    ffi::OsStr,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context as _, Result, ensure};
use hsm_modules::{build_folder, cargo_build};

pub use crate::server::{Server, programs};

/// Says that the programs are up to date, so that no test has to build them.
const BUILT: &str = "KDH_PROGRAMS_ARE_BUILT";
/// Connects without a password; owns everything.
pub const USER: &str = "kdh";
/// The name of a database that asks for [`PASSWORD`].
pub const GUARDED: &str = "guarded";
/// See [`GUARDED`].
pub const PASSWORD: &str = "a password, with % and 'quotes'";

/// A server that runs for as long as this lives.
#[derive(Debug)]
pub struct Postgres {
    folder: PathBuf,
    port: u16,
    keeper: Mutex<Keeper>,
    databases: AtomicU32,
}

/// The program that keeps it.
#[derive(Debug)]
struct Keeper {
    process: Child,
    /// Closed, it ends the program.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Postgres {
    /// Starts one.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one that also listens for TLS, with the certificate `server.pem` for `localhost`. It is of `ca.pem`, which
    /// lies with `other-ca.pem` in [`Self::socket`].
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with_tls() -> Result<Self> {
        Self::start_with(&[OsStr::new("--tls")])
    }

    /// Starts one whose databases lie in this folder and stay there. It has the settings of a fresh installation, and is
    /// ended in good order.
    ///
    /// # Errors
    /// As [`Self::start`]; somebody else may not get to the folder.
    pub fn start_in(folder: &Path) -> Result<Self> {
        Self::start_with(&[OsStr::new("--keep"), folder.as_os_str()])
    }

    fn start_with(arguments: &[&OsStr]) -> Result<Self> {
        let program = build_folder()?.join("private-postgres");
        if env::var_os(BUILT).is_none() {
            cargo_build(&["--package", "private-postgres"])?;
        }
        let mut process = Command::new(&program)
            .args(arguments)
            // A Ctrl-C for the tests is none for it: it has to clean up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} is missing: run ./dev", program.display()))?;
        let orders = process.stdin.take();
        let answers = process.stdout.take().context("its output")?;
        let mut keeper = Keeper {
            process,
            orders,
            answers: BufReader::new(answers),
        };
        Ok(Self {
            folder: keeper.answer()?.into(),
            port: keeper.answer()?.parse()?,
            keeper: Mutex::new(keeper),
            databases: AtomicU32::new(0),
        })
    }

    /// The one that the tests of a process share.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[expect(clippy::expect_used, reason = "a test fails by panicking")]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Self::start().expect("a PostgreSQL server"))
    }

    /// The folder of its socket.
    pub fn socket(&self) -> &Path {
        &self.folder
    }

    /// By which its socket is named.
    const fn socket_port(&self) -> u16 {
        if self.port == 0 { 5432 } else { self.port }
    }

    /// Where it listens for TLS, on loopback; 0 if it does not.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Makes an empty database, and returns its name.
    ///
    /// # Errors
    /// The server does not.
    pub fn new_database(&self) -> Result<String> {
        let name = format!("kdh_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.make_database(&name)?;
        Ok(name)
    }

    /// Makes an empty database of this name.
    ///
    /// # Errors
    /// The server does not.
    pub fn make_database(&self, name: &str) -> Result<()> {
        self.sql("postgres", &format!("CREATE DATABASE {name}"))
            .map(drop)
    }

    /// Runs statements in a database, as one transaction, and returns what they print.
    ///
    /// # Errors
    /// One fails.
    pub fn sql(&self, database: &str, statements: &str) -> Result<String> {
        let ended = Command::new(programs()?.join("psql"))
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"])
            .args(["--set=ON_ERROR_STOP=1", "--username", USER])
            .args(["--dbname", database, "--command", statements, "--host"])
            .arg(&self.folder)
            .args(["--port", &self.socket_port().to_string()])
            .stdin(Stdio::null())
            .env("PGPASSWORD", PASSWORD)
            .output()?;
        let words = String::from_utf8_lossy(&ended.stderr);
        ensure!(ended.status.success(), "{statements}: {words}");
        Ok(String::from_utf8(ended.stdout)?.trim().to_owned())
    }

    /// Ends it as a power failure would.
    ///
    /// # Errors
    /// It does not run.
    pub fn crash(&self) -> Result<()> {
        self.order("crash")
    }

    /// Starts it again.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_again(&self) -> Result<()> {
        self.order("start")
    }

    /// Keeps all of it from running, so that it takes connections and never answers.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self) -> Result<()> {
        self.order("freeze")
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn thaw(&self) -> Result<()> {
        self.order("thaw")
    }

    fn order(&self, order: &str) -> Result<()> {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = keeper.orders.as_mut().context("it has ended")?;
        writeln!(orders, "{order}")?;
        let answer = keeper.answer()?;
        ensure!(answer == "done", "{order}: {answer}");
        Ok(())
    }
}

impl Keeper {
    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(
            !line.is_empty(),
            "the PostgreSQL server has ended: see above"
        );
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.orders = None;
        // What went wrong it has said itself.
        let _ = self.process.wait();
    }
}
