//! The server's files and processes.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use crate::{GUARDED, PASSWORD, USER};

/// It runs as somebody else than root, as whom it refuses to.
const UNPRIVILEGED: &str = "postgres";

/// Where the newest PostgreSQL's programs are.
///
/// # Errors
/// There is none.
pub fn programs() -> Result<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").context("PostgreSQL is not installed")?;
    let mut found = Vec::new();
    for version in versions {
        let version = version?;
        let number = version.file_name().to_string_lossy().parse::<u32>();
        if let Ok(number) = number
            && version.path().join("bin/postgres").is_file()
        {
            found.push((number, version.path().join("bin")));
        }
    }
    let newest = found
        .into_iter()
        .max()
        .context("PostgreSQL is not installed")?;
    Ok(newest.1)
}

/// A server, which ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    folder: TempDir,
    /// Where its databases stay, if they do.
    kept: Option<PathBuf>,
    /// Where it also listens for TLS, on loopback.
    port: Option<u16>,
    postgres: Option<Child>,
    frozen: Vec<u32>,
}

impl Server {
    /// Makes its files, and starts it.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn new(with_tls: bool) -> Result<Self> {
        let mut server = Self::without_files()?;
        server.port = with_tls.then(free_port).transpose()?;
        server.make_files()?;
        server.start()?;
        Ok(server)
    }

    /// Starts one whose databases lie in this folder, where they stay; makes them, if there are none.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn kept(data: &Path) -> Result<Self> {
        let mut server = Self::without_files()?;
        server.kept = Some(data.to_owned());
        if !data.join("pg_hba.conf").exists() {
            fs::create_dir_all(data)?;
            give_away(data)?;
            server.make_files()?;
        }
        server.start()?;
        Ok(server)
    }

    fn without_files() -> Result<Self> {
        // Short, since the path of a socket has 107 bytes.
        let folder = tempfile::Builder::new().prefix("kdh-pg-").tempdir()?;
        give_away(folder.path())?;
        Ok(Self {
            folder,
            kept: None,
            port: None,
            postgres: None,
            frozen: Vec::new(),
        })
    }

    /// Where it listens for TLS.
    pub const fn port(&self) -> Option<u16> {
        self.port
    }

    /// The folder of its socket.
    pub fn socket(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> PathBuf {
        let own = || self.folder.path().join("data");
        self.kept.clone().unwrap_or_else(own)
    }

    fn make_files(&self) -> Result<()> {
        let password = self.folder.path().join("password");
        fs::write(&password, PASSWORD)?;
        let made = unprivileged("initdb")?
            .args([
                "--username",
                USER,
                "--auth=trust",
                "--no-sync",
                "--no-instructions",
            ])
            // Another order of texts than the host's.
            .args(["--encoding=UTF8", "--locale=C.UTF-8"])
            .args(["--locale-provider=icu", "--icu-locale=en"])
            .arg("--pwfile")
            .arg(&password)
            .arg("--pgdata")
            .arg(self.data())
            .stdin(Stdio::null())
            .output()?;
        let words = String::from_utf8_lossy(&made.stderr);
        ensure!(made.status.success(), "initdb: {words}");
        let rules = format!(
            "local {GUARDED} all scram-sha-256\nlocal all all trust\n\
             hostssl all all 127.0.0.1/32 scram-sha-256\n"
        );
        fs::write(self.data().join("pg_hba.conf"), rules)?;
        if self.port.is_some() {
            self.make_certificates()?;
        }
        Ok(())
    }

    /// `ca.pem`; by it, for `localhost`, `server.pem`; and another one, `other-ca.pem`.
    fn make_certificates(&self) -> Result<()> {
        let openssl = |arguments: &str| -> Result<()> {
            let mut openssl = Command::new("openssl");
            openssl
                .args(
                    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
                        .split(' '),
                )
                .args(arguments.split(' '))
                .current_dir(self.folder.path());
            let made = openssl.output()?;
            let words = String::from_utf8_lossy(&made.stderr);
            ensure!(made.status.success(), "{openssl:?}: {words}");
            Ok(())
        };
        for ca in ["ca", "other-ca"] {
            openssl(&format!("-subj /CN={ca} -keyout {ca}.key -out {ca}.pem"))?;
        }
        openssl(
            "-subj /CN=server -keyout server.key -out server.pem -CA ca.pem -CAkey ca.key \
             -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=DNS:localhost",
        )?;
        give_away(&self.folder.path().join("server.key"))
    }

    /// Starts it, and waits until it serves.
    ///
    /// # Errors
    /// It does not.
    pub fn start(&mut self) -> Result<()> {
        let mut command = unprivileged("postgres")?;
        match self.port {
            None => {
                command.args(["-c", "listen_addresses="]);
            }
            Some(port) => {
                let folder = self.folder.path().display();
                command
                    .args(["-c", "listen_addresses=127.0.0.1", "-c", "ssl=on"])
                    .args(["-c", &format!("ssl_cert_file={folder}/server.pem")])
                    .args(["-c", &format!("ssl_key_file={folder}/server.key")])
                    .args(["-p", &port.to_string()]);
            }
        }
        let mut postgres = command
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.folder.path())
            .args(["-c", "lc_messages=C", "-c", "max_connections=200"])
            .args(self.kept.is_none().then_some("--shared_buffers=32MB"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut words = BufReader::new(postgres.stderr.take().context("its words")?);
        self.postgres = Some(postgres);
        let mut log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))?;
        let (mut all, mut line) = (String::new(), String::new());
        while !line.contains("ready to accept connections") {
            line.clear();
            words.read_line(&mut line)?;
            ensure!(!line.is_empty(), "PostgreSQL does not start: {all}");
            all += &line;
        }
        log.write_all(all.as_bytes())?;
        // Nothing reads its words otherwise, and it would wait for somebody who does.
        thread::spawn(move || std::io::copy(&mut words, &mut log));
        Ok(())
    }

    /// Ends it at once, with nothing put in order.
    ///
    /// # Errors
    /// It does not run.
    pub fn crash(&mut self) -> Result<()> {
        self.thaw()?;
        self.end("-QUIT")
    }

    fn end(&mut self, how: &str) -> Result<()> {
        let mut postgres = self.postgres.take().context("it does not run")?;
        signal(how, &[postgres.id()])?;
        postgres.wait()?;
        Ok(())
    }

    /// Keeps all of its processes from running.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&mut self) -> Result<()> {
        let id = self.postgres.as_ref().context("it does not run")?.id();
        // First the one that starts the others.
        signal("-STOP", &[id])?;
        self.frozen = vec![id];
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?;
        let children = children.split_whitespace().map(str::parse);
        let children: Vec<u32> = children.collect::<Result<_, _>>()?;
        signal("-STOP", &children)?;
        self.frozen.extend(children);
        Ok(())
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// One has gone.
    pub fn thaw(&mut self) -> Result<()> {
        match std::mem::take(&mut self.frozen) {
            frozen if frozen.is_empty() => Ok(()),
            frozen => signal("-CONT", &frozen),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.thaw();
        if self.postgres.is_some() {
            // Files that are thrown away need no order. Those that stay are not left to the next start.
            let how = if self.kept.is_some() { "-INT" } else { "-QUIT" };
            let _ = self.end(how);
        }
    }
}

/// One that nobody else uses now.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// To whom the server runs as.
fn give_away(path: &Path) -> Result<()> {
    if !is_root()? {
        return Ok(());
    }
    let id = |flag| -> Result<u32> {
        let id = Command::new("id").args([flag, UNPRIVILEGED]).output()?;
        let text = String::from_utf8(id.stdout)?;
        text.trim().parse().context("no user postgres")
    };
    Ok(chown(path, Some(id("-u")?), Some(id("-g")?))?)
}

fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self")?.uid() == 0)
}

/// A program of PostgreSQL's, not as root.
fn unprivileged(program: &str) -> Result<Command> {
    let path = programs()?.join(program);
    if !is_root()? {
        return Ok(Command::new(path));
    }
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={UNPRIVILEGED}"))
        .arg(format!("--regid={UNPRIVILEGED}"))
        .args(["--clear-groups", "--inh-caps=-all"])
        .arg(path)
        .current_dir("/");
    Ok(command)
}

fn signal(name: &str, ids: &[u32]) -> Result<()> {
    let mut kill = Command::new("kill");
    kill.arg(name).args(ids.iter().map(ToString::to_string));
    ensure!(kill.status()?.success(), "cannot run {kill:?}");
    Ok(())
}
