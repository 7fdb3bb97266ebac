//! What a host needs to start, and who talks to it: tokens, certificates, a configuration, an
//! operator, a terminal.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        LazyLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use hsm::{
    ClearKey, Kcv, KcvMethod, KeyName, KeyPairKind, KeyRole, Module, Pin, SigningKey, Token,
    TokenConfig,
};
use kdh_host::{Clock, Host, ServeError, StartError, SystemClock, config::Config, serve};
use kdh_proto::v1::{
    AddDeviceRequest, EnrollRequest, EnrollResponse, IssueActivationCodeRequest,
    administration_client::AdministrationClient, key_distribution_client::KeyDistributionClient,
};
use pki::{
    Certificate, CrlContents, CrlNumber, Issuer, Role, SerialNumber, Signer as _, Subject, Validity,
};
use time::OffsetDateTime;
use token_tls::TlsIdentity;
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::transport::Channel;
use tr34::KeyKind;

const PIN: &str = "1234";
const SO_PIN: &str = "12345678";
const RSA: KeyPairKind = KeyPairKind::Rsa { bits: 2048 };
const ALIGNED_NAME: &str = "Test CA for key distribution";
const PATIENCE: Duration = Duration::from_secs(30);
/// One moment, so that no certificate outlives its CA by a second.
static NOW: LazyLock<OffsetDateTime> =
    LazyLock::new(|| OffsetDateTime::now_utc().replace_nanosecond(0).unwrap());
/// Makes serial numbers differ.
static ISSUED: AtomicU8 = AtomicU8::new(0);

/// All that is on the host's machine, and on its clients'.
pub(crate) struct World<'a> {
    directory: &'a Path,
    ca_ops: Certificate,
    terminal: Token,
    operator: TlsIdentity,
    /// Another certificate by the same CA, for the same name.
    namesake: TlsIdentity,
}

struct Ca {
    certificate: Certificate,
    key: SigningKey,
}

/// A host that serves.
pub(crate) struct Running {
    pub(crate) terminals: String,
    administration: String,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), ServeError>>,
}

impl Running {
    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.server.await.unwrap().unwrap();
    }
}

impl<'a> World<'a> {
    pub(crate) fn new(directory: &'a Path) -> Self {
        let (root, issuing, kdh) = (token("root"), token("issuing"), token("kdh"));
        let root_key = pair(&root, KeyRole::RootCa, "ca-root", RSA);
        let root = pki::issue_root(
            &root_key,
            &subject(
                Role::RootCa,
                "CN=Test Root,O=Test,C=DE".parse().unwrap(),
                &root_key,
            ),
        )
        .unwrap();
        let root = Ca {
            certificate: root,
            key: root_key,
        };
        let sub_ca = |label: &str, name: &str| {
            let key = pair(&issuing, KeyRole::IssuingCa, label, RSA);
            let name = format!("CN={name},O=Test,C=DE").parse().unwrap();
            let certificate = root.certify(&subject(Role::SubCa, name, &key));
            Ca { certificate, key }
        };
        let ca_krd = sub_ca("ca-krd", "Test CA KRD");
        // Not every name of a CA leaves a serial number that aligns.
        let ca_kdh = sub_ca("ca-kdh", ALIGNED_NAME);
        let ca_ops = sub_ca("ca-ops", "Test CA OPS");

        let signing = pair(&kdh, KeyRole::KdhSigning, "kdh-signing", RSA);
        let mut kdh_subject = ca_kdh.subject(Role::Kdh, "kdh-1", &signing);
        let serial_len =
            pki::aligned_serial_length(ca_kdh.certificate.subject(), &[16, 32], 16, 16).unwrap();
        kdh_subject.serial = serial(serial_len);
        let tls = pair(&kdh, KeyRole::TlsServer, "host-tls", KeyPairKind::P256);
        let module = hsm_modules::Place::of_this_process().unwrap().module();
        if !module.can.combining.is_empty() {
            bring_master_key(&kdh);
        }
        let mut tls_subject = ca_ops.subject(Role::HostTls, "kdh.example", &tls);
        tls_subject.hosts = vec!["kdh.example".to_owned()];

        let write = |name: &str, content: &[u8]| fs::write(directory.join(name), content).unwrap();
        for (name, certificate) in [
            ("root.pem", &root.certificate),
            ("ca-krd.pem", &ca_krd.certificate),
            ("ca-kdh.pem", &ca_kdh.certificate),
            ("ca-ops.pem", &ca_ops.certificate),
            ("kdh.pem", &ca_kdh.certify(&kdh_subject)),
            ("host-tls.pem", &ca_ops.certify(&tls_subject)),
        ] {
            write(name, certificate.to_pem().as_bytes());
        }
        write("crl-ca-krd.der", &ca_krd.crl(1, &[]));
        write("crl-ca-kdh.der", &ca_kdh.crl(1, &[]));
        // The list of tomorrow, for tests that put it in place.
        write("crl-ca-kdh.revoked", &ca_kdh.crl(2, &[kdh_subject.serial]));
        write("pin", PIN.as_bytes());
        fs::set_permissions(directory.join("pin"), fs::Permissions::from_mode(0o600)).unwrap();
        write("kdh-host.toml", configuration().as_bytes());

        let terminal = token("terminal");
        let operator = pair(&terminal, KeyRole::Operator, "operator", KeyPairKind::P256);
        let certificate = ca_ops.certify(&ca_ops.subject(Role::Operator, "ada", &operator));
        write("ada.pem", certificate.to_pem().as_bytes());
        let namesake = TlsIdentity {
            chain: vec![ca_ops.certify(&ca_ops.subject(Role::Operator, "ada", &operator))],
            key: operator.clone(),
        };
        let operator = TlsIdentity {
            chain: vec![certificate],
            key: operator,
        };
        // The host's tokens are closed here: a process opens a token once, and that is the host's.
        Self {
            directory,
            ca_ops: ca_ops.certificate,
            terminal,
            operator,
            namesake,
        }
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.join(name)
    }

    /// Puts something before the configuration.
    pub(crate) fn configure(&self, lines: &str) {
        let text = format!("{lines}{}", configuration());
        fs::write(self.path("kdh-host.toml"), text).unwrap();
    }

    pub(crate) fn config(&self) -> Config {
        Config::load(&self.path("kdh-host.toml")).unwrap()
    }

    pub(crate) async fn host(&self) -> Result<Host, StartError> {
        Host::start(self.config(), Box::new(SystemClock)).await
    }

    pub(crate) async fn serve(&self) -> Running {
        self.serve_by(SystemClock).await
    }

    /// With another clock than the system's.
    pub(crate) async fn serve_by(&self, clock: impl Clock + 'static) -> Running {
        let host = Host::start(self.config(), Box::new(clock)).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(serve(host, async {
            stopped.await.ok();
        }));
        let addresses = loop {
            if let Ok(text) = fs::read_to_string(self.path("addresses.json")) {
                break text;
            }
            assert!(!server.is_finished(), "the host does not serve");
            tokio::task::yield_now().await;
        };
        fs::remove_file(self.path("addresses.json")).unwrap();
        let addresses: serde_json::Value = serde_json::from_str(&addresses).unwrap();
        let address = |name: &str| addresses[name].as_str().unwrap().to_owned();
        Running {
            terminals: address("terminals"),
            administration: address("administration"),
            stop,
            server,
        }
    }

    async fn channel(&self, address: &str, identity: Option<&TlsIdentity>) -> Channel {
        let issuers = std::slice::from_ref(&self.ca_ops);
        let config = token_tls::client_config(identity, issuers).unwrap();
        token_tls::connect(address, "kdh.example", config, PATIENCE)
            .await
            .unwrap()
    }

    pub(crate) async fn terminal(&self, host: &Running) -> KeyDistributionClient<Channel> {
        KeyDistributionClient::new(self.channel(&host.terminals, None).await)
    }

    /// The terminal once it is enrolled.
    pub(crate) async fn enrolled(
        &self,
        host: &Running,
        serial_number: &str,
        enrolled: &EnrollResponse,
    ) -> KeyDistributionClient<Channel> {
        let name = KeyName::new(&format!("auth.{}", serial_number.to_lowercase())).unwrap();
        let key = self
            .terminal
            .signing_key(KeyRole::KrdAuthentication, &name)
            .unwrap();
        let certificate = &enrolled.authentication_certificate;
        let identity = TlsIdentity {
            chain: vec![Certificate::from_der(certificate).unwrap()],
            key,
        };
        KeyDistributionClient::new(self.channel(&host.terminals, Some(&identity)).await)
    }

    /// The code of a device that an operator has just added.
    pub(crate) async fn added(
        &self,
        operator: &mut AdministrationClient<Channel>,
        serial_number: &str,
    ) -> String {
        let device = AddDeviceRequest {
            serial_number: serial_number.to_owned(),
            model: "M1".to_owned(),
        };
        operator.add_device(device).await.unwrap();
        let code = IssueActivationCodeRequest {
            serial_number: serial_number.to_owned(),
        };
        let code = operator.issue_activation_code(code).await.unwrap();
        code.into_inner().code
    }

    pub(crate) async fn operator(&self, host: &Running) -> AdministrationClient<Channel> {
        self.operator_as(host, &self.operator).await
    }

    pub(crate) async fn namesake(&self, host: &Running) -> AdministrationClient<Channel> {
        self.operator_as(host, &self.namesake).await
    }

    async fn operator_as(
        &self,
        host: &Running,
        identity: &TlsIdentity,
    ) -> AdministrationClient<Channel> {
        let channel = self.channel(&host.administration, Some(identity)).await;
        AdministrationClient::new(channel)
    }

    /// What a terminal with fresh keys sends to be enrolled.
    pub(crate) fn enrollment(&self, serial_number: &str, activation_code: &str) -> EnrollRequest {
        let csr = |role, label: &str, kind| {
            let key = pair(
                &self.terminal,
                role,
                &format!("{label}.{}", serial_number.to_lowercase()),
                kind,
            );
            pki::issue_csr(&key, &"CN=terminal".parse().unwrap()).unwrap()
        };
        EnrollRequest {
            serial_number: serial_number.to_owned(),
            activation_code: activation_code.to_owned(),
            encryption_csr: csr(KeyRole::KrdEncryption, "enc", RSA),
            authentication_csr: csr(KeyRole::KrdAuthentication, "auth", KeyPairKind::P256),
        }
    }
}

/// Of CAs, credentials and revocation lists; terminals' certificates live for a day.
const LIFE: time::Duration = time::Duration::days(10);

fn configuration() -> String {
    let library = hsm_modules::library();
    CONFIGURATION.replace("LIBRARY", library.to_str().unwrap())
}

/// One session for each token and a patient queue, so that a test can keep it busy.
const CONFIGURATION: &str = r#"
store = "host.db"
addresses-file = "addresses.json"
oaep-hash = "sha1"
certificate-validity-days = 1
operators = [{ certificate = "ada.pem", roles = ["fleet", "keys", "audit"] }]
terminals.address = "127.0.0.1:0"
administration.address = "127.0.0.1:0"
[issuing-token]
module = "LIBRARY"
label = "issuing"
pin-file = "pin"
workers = 1
queue = 1000
deadline-seconds = 60
[kdh-token]
module = "LIBRARY"
label = "kdh"
pin-file = "pin"
[certificates]
root = "root.pem"
ca-krd = "ca-krd.pem"
ca-kdh = "ca-kdh.pem"
ca-ops = "ca-ops.pem"
kdh = "kdh.pem"
host-tls = "host-tls.pem"
crl-ca-krd = "crl-ca-krd.der"
crl-ca-kdh = "crl-ca-kdh.der"
"#;

impl Ca {
    fn certify(&self, subject: &Subject) -> Certificate {
        let issuer = Issuer {
            certificate: &self.certificate,
            signer: &self.key,
        };
        pki::issue_certificate(&issuer, subject).unwrap()
    }

    fn subject(&self, role: Role, common_name: &str, key: &SigningKey) -> Subject {
        let name = role
            .subject(self.certificate.subject(), common_name)
            .unwrap();
        subject(role, name, key)
    }

    fn crl(&self, number: u64, revoked: &[SerialNumber]) -> Vec<u8> {
        let issuer = Issuer {
            certificate: &self.certificate,
            signer: &self.key,
        };
        let now = *NOW;
        let revoked = revoked.iter().map(|serial| pki::RevokedCertificate {
            serial: serial.clone(),
            at: now,
            reason: None,
        });
        let contents = CrlContents {
            number: CrlNumber(number),
            this_update: now - time::Duration::HOUR,
            next_update: now + LIFE,
            revoked: revoked.collect(),
        };
        pki::issue_crl(&issuer, &contents).unwrap()
    }
}

fn subject(role: Role, name: pki::Name, key: &SigningKey) -> Subject {
    let now = *NOW;
    Subject {
        role,
        name,
        public_key: key.public_key().clone(),
        serial: serial(16),
        validity: Validity {
            not_before: now - time::Duration::HOUR,
            not_after: now + LIFE,
        },
        hosts: Vec::new(),
    }
}

fn serial(len: usize) -> SerialNumber {
    let mut random = vec![0; len];
    random[len - 1] = ISSUED.fetch_add(1, Ordering::Relaxed) + 1;
    SerialNumber::from_random(&random).unwrap()
}

fn token(label: &str) -> Token {
    let pin = |pin: &str| Pin::new(pin.to_owned().into());
    let module = Module::load(&hsm_modules::library()).unwrap();
    module
        .initialize_token(label, &pin(SO_PIN), &pin(PIN))
        .unwrap();
    module.open(&TokenConfig::new(label), &pin(PIN)).unwrap()
}

/// The label of the master key in the host's token.
pub(crate) const MASTER_KEY: &str = "kn.test";

/// As OpenSSL computes it of `MASTER_KEY`, 16 bytes of 0x43.
pub(crate) const MASTER_KEY_KCV: [u8; 3] = [0x96, 0x3f, 0x27];

fn bring_master_key(token: &Token) {
    let mut combination = token.combine_components(KeyKind::Aes128).unwrap();
    for byte in [0x01, 0x42] {
        combination.add(ClearKey::copy_from(&[byte; 16])).unwrap();
    }
    let kcv = Kcv::new(KcvMethod::AesCmac, &MASTER_KEY_KCV).unwrap();
    let name = KeyName::new(MASTER_KEY).unwrap();
    combination.finish(&name, &kcv).unwrap();
}

fn pair(token: &Token, role: KeyRole, label: &str, kind: KeyPairKind) -> SigningKey {
    let name = KeyName::new(label).unwrap();
    token.generate_key_pair(role, &name, kind).unwrap();
    token.signing_key(role, &name).unwrap()
}
