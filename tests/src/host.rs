//! A site's host: the real `kdh-host`.

use std::{fmt::Write as _, fs, path::PathBuf, process::ExitStatus};

use anyhow::{Context as _, Result};
use hsm_modules::TestModule;
use private_postgres::Postgres;
use serde::Deserialize;

use crate::{
    faults::{self, Faults, faulty_module},
    operator::toml_text,
    process::Background,
    site::{OPERATORS, Site},
};

/// A token of another HSM, or another one of the same, that shares the work of the token `kdh`.
#[derive(Clone, Debug)]
pub struct Replica {
    /// The library.
    pub module: PathBuf,
    /// The token's label.
    pub label: &'static str,
}

/// A KDH credential: its certificate's file and its key's label.
#[derive(Clone, Copy, Debug)]
pub struct Kdh {
    /// In the folder `pki`.
    pub certificate: &'static str,
    /// In the token `kdh`.
    pub key: &'static str,
}

/// The one that every site has.
pub const FIRST_KDH: Kdh = Kdh {
    certificate: "kdh.pem",
    key: "kdh-signing",
};

/// The one that the sample plan `new-kdh-credential.toml` makes.
pub const NEXT_KDH: Kdh = Kdh {
    certificate: "kdh-2.pem",
    key: "kdh-signing-2",
};

/// What can be set otherwise than in the defaults of this harness.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// `require` or `warn`.
    pub key_strength: &'static str,
    /// Of what terminals may hold: `lenient`, by which those with RSA-2048 may have AES keys, and several the same, or
    /// `strict`.
    pub key_policy: &'static str,
    /// The program; the real one if there is none.
    pub program: Option<PathBuf>,
    /// Port of the terminals' listener and of the administration; any that are free by default.
    pub ports: [u16; 2],
    /// Whether the module with faults stands in front of the real one.
    pub faulty: bool,
    /// Its commands to start with, separated by `;`.
    pub faults_at_start: &'static str,
    /// For a call into the HSM, in seconds.
    pub hsm_deadline: u64,
    /// Threads that are replaced when they do not come back.
    pub max_stuck: u64,
    /// Sessions with each token; 4 if nothing is said, or 1 under the spy.
    pub sessions: Option<usize>,
    /// Operations that may wait for one.
    pub queue: usize,
    /// What else holds the keys of the token `kdh`.
    pub replica: Option<Replica>,
    /// Connections at the same time, to each listener.
    pub connections: usize,
    /// Of these, from one address.
    pub connections_per_address: usize,
    /// Of one terminal.
    pub device_calls_per_minute: u32,
    /// To which terminals are bound.
    pub kdh: Kdh,
    /// From which they are handed over.
    pub retiring: &'static [Kdh],
    /// Models with their profiles.
    pub models: &'static [(&'static str, &'static str)],
    /// The hash in RSA-OAEP; the strongest that host and terminals have if nothing is said.
    pub oaep_hash: Option<&'static str>,
    /// Whether the host knows the sender `switch`, whose certificates are in the folder `pki`, and receives by the pair
    /// `import-krd`: with these lines more.
    pub key_sender: Option<&'static str>,
    /// Where its database is; a SQLite file if nothing is said.
    pub postgres: Option<PostgresDatabase>,
    /// That file, in the folder `host`.
    pub sqlite: &'static str,
    /// How many keys rollouts make in a second at most, and how many a rotation of storage keys moves; the host's own
    /// limits if nothing is said.
    pub keys_per_second: Option<u32>,
    /// Whether a file that may not grow is an error to the host, and not its end.
    pub survives_full_files: bool,
}

/// A database of a private PostgreSQL server.
#[derive(Clone, Debug)]
pub struct PostgresDatabase {
    /// The folder of the server's socket.
    pub socket: PathBuf,
    /// The database's name.
    pub name: String,
}

impl HostOptions {
    /// With a database of its own of this server.
    ///
    /// # Errors
    /// The server does not make one.
    pub fn with_postgres(server: &Postgres) -> Result<Self> {
        Ok(Self {
            postgres: Some(PostgresDatabase {
                socket: server.socket().to_owned(),
                name: server.new_database()?,
            }),
            ..Self::default()
        })
    }

    /// Those with its limits.
    fn limits(&self) -> String {
        let mut lines = format!(
            "\n[limits]\nconnections = {}\nconnections-per-address = {}\ndevice-calls-per-minute = {}\n",
            self.connections, self.connections_per_address, self.device_calls_per_minute
        );
        if let Some(limit) = self.keys_per_second {
            // Writing to a String cannot fail.
            let _ = writeln!(
                lines,
                "rollout-per-second = {limit}\nrewrap-per-second = {limit}"
            );
        }
        lines
    }

    /// The lines of the configuration that say where the database is.
    fn store(&self) -> String {
        match &self.postgres {
            None => format!("store = \"{}\"\n", self.sqlite),
            Some(PostgresDatabase { socket, name }) => format!(
                "store = {{ socket = {}, database = \"{name}\", user = \"{}\" }}\n",
                toml_text(socket),
                private_postgres::USER
            ),
        }
    }
}

impl Default for HostOptions {
    fn default() -> Self {
        Self {
            key_strength: "warn",
            key_policy: "lenient",
            program: None,
            ports: [0, 0],
            faulty: false,
            faults_at_start: "",
            hsm_deadline: 60,
            max_stuck: 8,
            sessions: None,
            queue: 64,
            replica: None,
            connections: 1024,
            connections_per_address: 64,
            device_calls_per_minute: 120,
            kdh: FIRST_KDH,
            retiring: &[],
            models: &[],
            oaep_hash: None,
            key_sender: None,
            postgres: None,
            sqlite: "kdh.sqlite",
            keys_per_second: None,
            survives_full_files: false,
        }
    }
}

/// Where a host listens, as it wrote it itself.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Addresses {
    /// For terminals.
    pub terminals: String,
    /// For operators.
    pub administration: String,
}

/// A running host. Killed when dropped.
#[derive(Debug)]
pub struct Host {
    process: Background,
    addresses: Addresses,
}

impl Site {
    /// Starts the host, and waits until it serves.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_host(&self, options: &HostOptions) -> Result<Host> {
        let configuration = self.write_host_configuration(options)?;
        let addresses_file = self.addresses_file();
        if addresses_file.exists() {
            fs::remove_file(&addresses_file)?;
        }
        let program = match &options.program {
            Some(program) => program.clone(),
            None => self.programs().path("kdh-host"),
        };
        let log = self.log("kdh-host");
        let mut host = if options.survives_full_files {
            let shell = self.hsm()?.program("/bin/sh", &log);
            // What is ignored stays ignored in the program that takes the shell's place.
            let line = "trap '' XFSZ; exec \"$0\" \"$@\"";
            shell.args(["-c", line]).arg(program)
        } else {
            self.hsm()?.program(program, &log)
        };
        if options.faulty {
            host = host
                .envs(faults::variables(self.hsm_module(), &self.control())?)
                .env(faults::START, options.faults_at_start);
        }
        let host = host.arg("run").arg("--config").arg(configuration);
        let mut process = self.watch(host, "host")?.start()?;
        let text = process.wait_for(|| fs::read_to_string(&addresses_file).ok())?;
        let addresses = serde_json::from_str(&text).context("the addresses do not parse")?;
        Ok(Host { process, addresses })
    }

    /// Where the module with faults listens.
    pub fn control(&self) -> PathBuf {
        self.folder().join("host").join("faults")
    }

    /// The faults of the running host's HSM.
    ///
    /// # Errors
    /// No host runs with the module that has them.
    pub fn faults(&self) -> Result<Faults> {
        Faults::connect(&self.control())
    }

    /// Where the running host listens.
    ///
    /// # Errors
    /// None ever ran.
    pub fn addresses(&self) -> Result<Addresses> {
        let text = fs::read_to_string(self.addresses_file()).context("the host does not run")?;
        serde_json::from_str(&text).context("the addresses do not parse")
    }

    fn oaep_hash(&self) -> &'static str {
        oaep_hash(&[self.hsm_module(), self.terminal_module()])
    }

    /// The host's configuration file.
    pub fn host_configuration(&self) -> PathBuf {
        self.folder().join("host").join("kdh-host.toml")
    }

    fn addresses_file(&self) -> PathBuf {
        self.folder().join("host").join("addresses.json")
    }

    fn write_host_configuration(&self, options: &HostOptions) -> Result<PathBuf> {
        let module = if options.faulty {
            toml_text(&faulty_module()?)
        } else {
            toml_text(&self.module()?)
        };
        // The spy's lines would mix.
        let (usual, probe_after) = if self.is_spied() { (1, 3600) } else { (4, 1) };
        let workers = options.sessions.unwrap_or(usual);
        let [terminals, administration] = options.ports;
        let mut text = format!(
            "{}addresses-file = \"addresses.json\"\n\
             oaep-hash = \"{}\"\nke-for-tdea = \"{}\"\nkey-strength = \"{}\"\n\
             key-policy = \"{}\"\nshared-keys = \"allow\"\nkdh-key = \"{}\"\n",
            options.store(),
            options.oaep_hash.unwrap_or_else(|| self.oaep_hash()),
            if self.hsm_module().can.tdea_ke() {
                "tdea"
            } else {
                "aes"
            },
            options.key_strength,
            options.key_policy,
            options.kdh.key
        );
        for kdh in options.retiring {
            write!(
                text,
                "\n[[retiring-kdh]]\ncertificate = \"../pki/{}\"\nkey = \"{}\"\n",
                kdh.certificate, kdh.key
            )?;
        }
        if let Some(more) = options.key_sender {
            write!(
                text,
                "\n[[key-senders]]\nname = \"switch\"\ncertificate = \"../pki/switch-kdh.pem\"\n\
                 ca = \"../pki/switch-ca.pem\"\npair = \"import-krd\"\n\
                 receiver = \"../pki/import-krd.pem\"\n{more}\n"
            )?;
        }
        for (name, profile) in options.models {
            write!(
                text,
                "\n[[models]]\nname = \"{name}\"\nprofile = \"{profile}\"\n"
            )?;
        }
        write!(
            text,
            "\n[terminals]\naddress = \"127.0.0.1:{terminals}\"\n\n\
             [administration]\naddress = \"127.0.0.1:{administration}\"\n"
        )?;
        for token in ["issuing", "kdh"] {
            write!(
                text,
                "\n[{token}-token]\nmodule = {module}\nlabel = \"{token}\"\n\
                 pin-file = \"../hsm/{token}.pin\"\nworkers = {workers}\n\
                 queue = {}
deadline-seconds = {}
max-stuck = {}
probe-after-seconds = {probe_after}
",
                options.queue, options.hsm_deadline, options.max_stuck
            )?;
        }
        if let Some(replica) = &options.replica {
            write!(
                text,
                "\n[[kdh-token.replicas]]\nmodule = {}\nlabel = \"{1}\"\n\
                 pin-file = \"../hsm/{1}.pin\"\n",
                toml_text(&replica.module),
                replica.label
            )?;
        }
        write!(
            text,
            "\n[certificates]\nroot = \"../pki/root.pem\"\nca-krd = \"../pki/ca-krd.pem\"\n\
             ca-kdh = \"../pki/{}\"\nca-ops = \"../pki/ca-ops.pem\"\nkdh = \"../pki/{}\"\n\
             host-tls = \"../pki/host-tls.pem\"\ncrl-ca-krd = \"../pki/crl-ca-krd.der\"\n\
             crl-ca-kdh = \"../pki/{}\"\n",
            self.topology().ca_kdh(),
            options.kdh.certificate,
            self.topology().crl_ca_kdh()
        )?;
        text += &options.limits();
        for operator in OPERATORS {
            write!(
                text,
                "\n[[operators]]\ncertificate = \"../pki/{}.pem\"\nroles = {:?}\n",
                operator.name, operator.roles
            )?;
        }
        let file = self.host_configuration();
        fs::write(&file, text)?;
        Ok(file)
    }
}

/// The strongest hash that all of them have.
pub(crate) fn oaep_hash(modules: &[&TestModule]) -> &'static str {
    if modules.iter().all(|module| module.can.oaep_sha256) {
        "sha256"
    } else {
        "sha1"
    }
}

impl Host {
    /// Where it listens.
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Memory that it holds now, in KiB, where the system tells.
    pub fn resident_kib(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// SIGKILL.
    ///
    /// # Errors
    /// The system refuses.
    pub fn kill(self) -> Result<()> {
        self.process.kill()
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// It does not end well.
    pub fn stop(self) -> Result<()> {
        self.process.stop()
    }

    /// Waits until it has ended by itself, and says how.
    ///
    /// # Errors
    /// It does not end.
    pub fn ended(self) -> Result<ExitStatus> {
        self.process.ended()
    }

    /// Leaves it running.
    pub fn let_go(self) {
        self.process.let_go();
    }
}
