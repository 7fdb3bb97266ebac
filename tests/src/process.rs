//! Running programs: to their end, or in the background.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fmt,
    fs::{File, OpenOptions},
    io::{Read, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

/// Far above what anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_mins(3);

/// Between a program's last words and its end.
const AFTER_LAST_WORDS: Duration = Duration::from_secs(30);

/// A program that is to be run, and where its words go.
#[derive(Debug)]
pub struct Program {
    command: Command,
    name: String,
    log: PathBuf,
    input: Vec<u8>,
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The program and its arguments.
    pub command: String,
    /// Its exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Where both can be read again.
    pub log: PathBuf,
}

impl Program {
    /// The program at `path`; what it prints is added to `log`.
    pub fn new(path: impl AsRef<Path>, log: &Path) -> Self {
        let path = path.as_ref();
        let name = path.file_name().unwrap_or(path.as_os_str());
        Self {
            command: Command::new(path),
            name: name.to_string_lossy().into_owned(),
            log: log.to_owned(),
            input: Vec::new(),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(key, value);
        self
    }

    /// Sets environment variables.
    #[must_use]
    pub fn envs(mut self, variables: impl IntoIterator<Item = (&'static str, PathBuf)>) -> Self {
        self.command.envs(variables);
        self
    }

    /// What it reads from standard input; nothing without this.
    #[must_use]
    pub fn input(mut self, bytes: &[u8]) -> Self {
        self.input = bytes.to_vec();
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// It cannot be started, or is still running after some minutes.
    pub fn run(mut self) -> Result<Ended> {
        let command = self.line();
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that does not want it may have closed it.
            let _ = stdin.write_all(&self.input);
        }
        let stdout = child.stdout.take().map(read_aside);
        let stderr = child.stderr.take().map(read_aside);
        // A program that ends closes both, so nothing has to be asked again and again.
        let text = |read: Option<Receiver<Vec<u8>>>| {
            let bytes = read.and_then(|read| read.recv_timeout(LIMIT).ok());
            String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
        };
        let (stdout, stderr) = (text(stdout), text(stderr));
        let status = wait(&mut child, AFTER_LAST_WORDS);
        if status.is_err() {
            child.kill()?;
            child.wait()?;
        }
        let mut log = append(&self.log)?;
        writeln!(log, "$ {command}\n{stderr}{stdout}")?;
        Ok(Ended {
            status: status.with_context(|| format!("{command}: see {}", self.log.display()))?,
            command,
            stdout,
            stderr,
            log: self.log,
        })
    }

    /// Runs it and demands that it succeeds.
    ///
    /// # Errors
    /// It did not.
    pub fn succeed(self) -> Result<Ended> {
        let ended = self.run()?;
        if ended.status.success() {
            return Ok(ended);
        }
        Err(Failed(ended).into())
    }

    /// Starts it in the background, in a process group of its own, so that nothing meant for this
    /// program reaches it. It ends with the returned value.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(mut self) -> Result<Background> {
        use std::os::unix::process::CommandExt as _;
        let command = self.line();
        let mut log = append(&self.log)?;
        writeln!(log, "$ {command}")?;
        // Nobody ends all between its start and its entry.
        let mut running = running();
        let child = self
            .command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {command}"))?;
        running.insert(child.id());
        Ok(Background {
            id: child.id(),
            child: Some(child),
            name: self.name,
            log: self.log,
        })
    }

    fn line(&self) -> String {
        let arguments = self.command.get_args().map(OsStr::to_string_lossy);
        std::iter::once(self.name.as_str().into())
            .chain(arguments)
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl Ended {
    /// The last lines that it printed: where programs say what went wrong.
    pub fn last_words(&self) -> String {
        let text = if self.stderr.trim().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        last_lines(text)
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.trim().lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}

/// A program that did not succeed.
#[derive(Debug)]
pub struct Failed(pub Ended);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(ended) = self;
        write!(
            f,
            "{}: {}: {}",
            ended.command,
            ended.status,
            ended.last_words()
        )
    }
}

impl std::error::Error for Failed {}

/// A program in the background. Killed when dropped.
#[derive(Debug)]
pub struct Background {
    /// `None` once it was let go, or has ended.
    child: Option<Child>,
    id: u32,
    name: String,
    log: PathBuf,
}

impl Background {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Waits until `ready` gives something.
    ///
    /// # Errors
    /// The program ended, or is not ready after three minutes.
    pub fn wait_for<T>(&mut self, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
        let (name, log) = (self.name.clone(), self.log.clone());
        let child = self.child.as_mut().context("it was let go")?;
        poll(LIMIT, || {
            if let Some(found) = ready() {
                return Ok(Some(found));
            }
            match child.try_wait()? {
                Some(status) => bail!("{}", end(&name, status, &log)),
                None => Ok(None),
            }
        })
        .with_context(|| format!("{} did not get ready", self.name))
    }

    /// Ends it as a power failure would: SIGKILL.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(mut self) -> Result<()> {
        self.kill_now()
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// It does not end, or not with success.
    pub fn stop(mut self) -> Result<()> {
        terminate(self.id)?;
        let child = self.child.as_mut().context("it was let go")?;
        let status = wait(child, LIMIT)?;
        self.release();
        ensure!(
            status.success(),
            "{} ended with {status}, see {}",
            self.name,
            self.log.display()
        );
        Ok(())
    }

    /// Waits until it has ended by itself, and says how.
    ///
    /// # Errors
    /// It is still running after some minutes.
    pub fn ended(mut self) -> Result<ExitStatus> {
        let child = self.child.as_mut().context("it was let go")?;
        let status = wait(child, LIMIT)?;
        self.release();
        Ok(status)
    }

    /// Waits until it has ended by itself, with success.
    ///
    /// # Errors
    /// It is still running after some minutes, or failed: with its last words.
    pub fn succeed(self) -> Result<()> {
        let (name, log) = (self.name.clone(), self.log.clone());
        let status = self.ended()?;
        ensure!(status.success(), "{}", end(&name, status, &log));
        Ok(())
    }

    /// Lets it go on without us.
    pub fn let_go(mut self) {
        self.release();
    }

    /// From now on nothing here ends it.
    fn release(&mut self) -> Option<Child> {
        running().remove(&self.id);
        self.child.take()
    }

    fn kill_now(&mut self) -> Result<()> {
        if let Some(mut child) = self.release() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.kill_now();
    }
}

/// Programs in the background, by their ids.
fn running() -> MutexGuard<'static, BTreeSet<u32>> {
    static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends this program, having asked those in the background to end: none of them is left, and none is started any more.
pub fn exit_with_all(code: i32) -> ! {
    let running = running();
    for id in &*running {
        // Whether it was there still is of no matter.
        let _ = terminate(*id);
    }
    std::process::exit(code)
}

/// How a program in the background ended, with its last words.
fn end(name: &str, status: ExitStatus, log: &Path) -> String {
    let words = std::fs::read_to_string(log).unwrap_or_default();
    format!("{name} ended ({status}): {}", last_lines(&words))
}

/// Sends SIGTERM.
///
/// # Errors
/// There is no such process, or it is not ours.
pub fn terminate(id: u32) -> Result<()> {
    let status = Command::new("kill")
        .arg("-TERM")
        .arg(id.to_string())
        .status()
        .context("cannot run kill")?;
    ensure!(status.success(), "cannot stop process {id}");
    Ok(())
}

/// Asks again and again, less and less often, until there is an answer.
///
/// # Errors
/// `question`'s own, or there was no answer within `limit`.
pub fn poll<T>(limit: Duration, mut question: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(answer) = question()? {
            return Ok(answer);
        }
        ensure!(
            start.elapsed() < limit,
            "gave up after {} s",
            limit.as_secs()
        );
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    poll(limit, || Ok(child.try_wait()?))
}

/// Reads a pipe to its end on a thread of its own.
fn read_aside(mut pipe: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came before a failure is worth having.
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

fn append(log: &Path) -> Result<File> {
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))
}
