//! What a host needs to start, and who talks to it: tokens, certificates, a configuration, an
//! operator, a terminal.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        LazyLock, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use hsm::{
    ClearKey, Kcv, KcvMethod, KeyName, KeyPairKind, KeyRole, Module, Pin, SigningKey,
    StorageNumber, Token, TokenConfig,
};
use hsm_modules::{Place, TestModule};
use kdh_host::{Clock, Host, ServeError, StartError, SystemClock, config::Config, serve};
use kdh_proto::v1::{
    AddDeviceRequest, AssignKeyRequest, BindRequest, EnrollRequest, EnrollResponse,
    IssueActivationCodeRequest, KeyCheckValue, Receipt, RegisterBdkRequest, RegisterKeyRequest,
    administration_client::AdministrationClient,
    base_derivation_keys_client::BaseDerivationKeysClient, key_check_value::Method,
    key_distribution_client::KeyDistributionClient,
};
use pki::{
    Certificate, CrlContents, CrlNumber, Issuer, Role, SerialNumber, Signer as _, Subject, Validity,
};
use private_postgres::Postgres;
use prost::Message;
use time::OffsetDateTime;
use token_tls::{ConnectError, TlsIdentity};
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::transport::Channel;
use tr34::KeyKind;

/// Far above what anything here takes.
const LONG: Duration = Duration::from_mins(1);
const PIN: &str = "1234";
const SO_PIN: &str = "12345678";
pub(crate) const RSA: KeyPairKind = KeyPairKind::Rsa { bits: 2048 };
const ALIGNED_NAME: &str = "Test CA for key distribution";
const PATIENCE: Duration = Duration::from_secs(30);
/// The moment in which the world was founded, so that no certificate outlives its CA by a second.
static NOW: LazyLock<OffsetDateTime> = LazyLock::new(|| {
    let founded = Place::of_this_process().map(|place| place.folder().join(FOUNDED));
    match founded.map(fs::read_to_string) {
        Some(Ok(seconds)) => OffsetDateTime::from_unix_timestamp(seconds.parse().unwrap()).unwrap(),
        _ => OffsetDateTime::now_utc().replace_nanosecond(0).unwrap(),
    }
});
/// The file with that moment.
const FOUNDED: &str = "founded";
/// The test that founds it.
const FOUNDING: &str = "world::a_world_is_founded";
/// Makes serial numbers differ.
static ISSUED: AtomicU8 = AtomicU8::new(0);

/// All that is on the host's machine, and on its clients'.
pub(crate) struct World<'a> {
    directory: &'a Path,
    ca_ops: Certificate,
    terminal: Token,
    /// Ada; then, with the role recovery, bob and cleo; then two switches.
    operators: [TlsIdentity; 5],
    /// Another certificate by the same CA, for ada's name.
    namesake: TlsIdentity,
    /// The database's name, if it is PostgreSQL's.
    postgres: OnceLock<String>,
}

/// A terminal that is enrolled and bound.
pub(crate) struct Bound {
    pub(crate) client: KeyDistributionClient<Channel>,
    pub(crate) enrolled: EnrollResponse,
}

pub(crate) struct Ca {
    pub(crate) certificate: Certificate,
    pub(crate) key: SigningKey,
}

/// Certificates that operators may name as those of other KDHs, by their files.
struct OtherKdhs {
    certificates: Vec<(&'static str, Certificate)>,
    /// The serial numbers of `kdh-listed.pem` and `kdh-two.pem`.
    listed: [SerialNumber; 2],
}

impl OtherKdhs {
    /// All of one key: nobody looks at it.
    fn new(ca_krd: &Ca, ca_kdh: &Ca, key: &SigningKey) -> Self {
        let subject = |name| ca_kdh.subject(Role::Kdh, name, key);
        let [two, listed, three] = ["kdh-2", "kdh-listed", "kdh-3"].map(subject);
        let mut expired = subject("kdh-expired");
        expired.validity.not_after = *NOW - time::Duration::MINUTE;
        Self {
            listed: [listed.serial.clone(), two.serial.clone()],
            certificates: vec![
                ("kdh-two.pem", ca_kdh.certify(&two)),
                ("kdh-three.pem", ca_kdh.certify(&three)),
                ("kdh-listed.pem", ca_kdh.certify(&listed)),
                ("kdh-expired.pem", ca_kdh.certify(&expired)),
                (
                    "kdh-foreign.pem",
                    ca_krd.certify(&ca_krd.subject(Role::Kdh, "kdh-4", key)),
                ),
                (
                    "krd-by-ca-kdh.pem",
                    ca_kdh.certify(&ca_kdh.subject(Role::Krd, "SN-9", key)),
                ),
            ],
        }
    }
}

/// Terminals of another host under the same CA, by the files of their certificates.
struct Visitors {
    certificates: Vec<(&'static str, Certificate)>,
    /// The serial numbers of those that are listed.
    listed: [SerialNumber; 2],
}

impl Visitors {
    /// With an RSA and a P-256 key: that others have them does not matter to the registry.
    fn new(ca_krd: &Ca, ca_kdh: &Ca, encryption: &SigningKey, authentication: &SigningKey) -> Self {
        let krd = |name| ca_krd.subject(Role::Krd, name, encryption);
        let krd_tls = |name| ca_krd.subject(Role::KrdTls, name, authentication);
        let expired = |mut subject: Subject| {
            subject.validity.not_after = *NOW - time::Duration::MINUTE;
            ca_krd.certify(&subject)
        };
        let early = |mut subject: Subject| {
            subject.validity.not_before = *NOW + time::Duration::DAY;
            ca_krd.certify(&subject)
        };
        let (listed, listed_tls) = (krd("SN-7"), krd_tls("SN-7"));
        let mut namesake = ca_krd.subject(Role::KrdTls, "SN-8", authentication);
        let good = krd("SN-7");
        namesake.serial = good.serial.clone();
        Self {
            listed: [listed.serial.clone(), listed_tls.serial.clone()],
            certificates: vec![
                ("visitor.pem", ca_krd.certify(&good)),
                ("visitor-tls.pem", ca_krd.certify(&krd_tls("SN-7"))),
                ("other.pem", ca_krd.certify(&krd("SN-8"))),
                ("other-tls.pem", ca_krd.certify(&krd_tls("SN-8"))),
                ("other-tls-same-serial.pem", ca_krd.certify(&namesake)),
                ("visitor-listed.pem", ca_krd.certify(&listed)),
                ("visitor-tls-listed.pem", ca_krd.certify(&listed_tls)),
                ("visitor-expired.pem", expired(krd("SN-7"))),
                ("visitor-tls-expired.pem", expired(krd_tls("SN-7"))),
                ("visitor-early.pem", early(krd("SN-7"))),
                (
                    "visitor-foreign.pem",
                    ca_kdh.certify(&ca_kdh.subject(Role::Krd, "SN-7", encryption)),
                ),
                (
                    "visitor-tls-foreign.pem",
                    ca_kdh.certify(&ca_kdh.subject(Role::KrdTls, "SN-7", authentication)),
                ),
            ],
        }
    }
}

/// Whose certificates the configuration lists.
const OPERATORS: [&str; 5] = ["ada", "bob", "cleo", "switch", "standby"];

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

/// Asks until there is an answer, which everything that is waited for here has within seconds.
pub(crate) async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asked = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, asked).await.unwrap()
}

/// Runs the body of a test on each of the modules, in a folder with a world of its own.
pub(crate) fn on<F: FnOnce(&Place)>(modules: &[&'static TestModule], body: F) {
    hsm_modules::on_founded(FOUNDING, modules, body);
}

/// Tests begin with copies of what this leaves: RSA keys take their time.
#[test]
fn a_world_is_founded() {
    if let Some(place) = Place::of_this_process() {
        return World::found(place.folder());
    }
    for module in hsm_modules::WHOLE {
        hsm_modules::founded(FOUNDING, module);
    }
}

impl<'a> World<'a> {
    /// The one that was founded before ([`on`]).
    pub(crate) fn new(directory: &'a Path) -> Self {
        let terminal = open("terminal");
        let certificate = |name: &str| {
            let pem = fs::read_to_string(directory.join(name)).unwrap();
            Certificate::from_pem(&pem).unwrap()
        };
        let identity = |key: &str, file: &str| TlsIdentity {
            chain: vec![certificate(file)],
            key: terminal
                .signing_key(KeyRole::Operator, &KeyName::new(key).unwrap())
                .unwrap(),
        };
        Self {
            operators: OPERATORS.map(|name| identity(name, &format!("{name}.pem"))),
            namesake: identity("ada", "namesake.pem"),
            ca_ops: certificate("ca-ops.pem"),
            terminal,
            directory,
            postgres: OnceLock::new(),
        }
    }

    /// With something more in the kdh token.
    pub(crate) fn with_kdh_token(directory: &'a Path, prepare: impl FnOnce(&Token)) -> Self {
        prepare(&open("kdh"));
        Self::new(directory)
    }

    /// Plays a scene in it.
    pub(crate) fn play(&self, scene: impl AsyncFnOnce(&World<'_>)) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(scene(self));
    }

    /// Tokens, certificates and lists, and a configuration that names them.
    fn found(directory: &Path) {
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
            pki::aligned_serial_length(ca_kdh.certificate.subject(), &[16, 32], &[16, 48], 16)
                .unwrap();
        kdh_subject.serial = serial(serial_len);
        let next = pair(&kdh, KeyRole::KdhSigning, "kdh-signing-2", RSA);
        let mut next_subject = ca_kdh.subject(Role::Kdh, "kdh-1, next", &next);
        next_subject.serial = serial(serial_len);
        let tls = pair(&kdh, KeyRole::TlsServer, "host-tls", KeyPairKind::P256);
        kdh.make_storage_keys(StorageNumber::FIRST).unwrap();
        let module = Place::of_this_process().unwrap().module();
        if !module.can.combining.is_empty() {
            bring_key(&kdh, MASTER_KEY);
            bring_key(&kdh, ZMK);
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
            ("kdh-next.pem", &ca_kdh.certify(&next_subject)),
            ("host-tls.pem", &ca_ops.certify(&tls_subject)),
        ] {
            write(name, certificate.to_pem().as_bytes());
        }
        let others = OtherKdhs::new(&ca_krd, &ca_kdh, &signing);
        let visitors = Visitors::new(&ca_krd, &ca_kdh, &next, &tls);
        for (name, certificate) in others.certificates.into_iter().chain(visitors.certificates) {
            write(name, certificate.to_pem().as_bytes());
        }
        let listed = &others.listed[..];
        write("crl-ca-krd.der", &ca_krd.crl(1, &visitors.listed));
        write("crl-ca-kdh.der", &ca_kdh.crl(1, &listed[..1]));
        // Lists of tomorrow, for tests that put them in place.
        write("crl-ca-kdh.revoked", &ca_kdh.crl(2, &[kdh_subject.serial]));
        write("crl-ca-kdh.other-revoked", &ca_kdh.crl(2, listed));
        write("pin", PIN.as_bytes());
        fs::set_permissions(directory.join("pin"), fs::Permissions::from_mode(0o600)).unwrap();
        write("kdh-host.toml", configuration().as_bytes());

        let terminal = token("terminal");
        let operator = |file: &str, name: &str, key: &SigningKey| {
            let certificate = ca_ops.certify(&ca_ops.subject(Role::Operator, name, key));
            write(file, certificate.to_pem().as_bytes());
        };
        for name in OPERATORS {
            let key = pair(&terminal, KeyRole::Operator, name, KeyPairKind::P256);
            operator(&format!("{name}.pem"), name, &key);
            if name == "ada" {
                operator("namesake.pem", name, &key);
            }
        }
        write(FOUNDED, NOW.unix_timestamp().to_string().as_bytes());
    }

    /// A token that is none of the host's.
    pub(crate) const fn other_token(&self) -> &Token {
        &self.terminal
    }

    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.join(name)
    }

    /// Puts something before the configuration.
    pub(crate) fn configure(&self, lines: &str) {
        self.configure_with_kdh("kdh.pem", lines);
    }

    /// The same, with another KDH certificate. Keys that terminals may load under RSA-2048 are stronger than that, which
    /// strict mode refuses.
    pub(crate) fn configure_with_kdh(&self, kdh: &str, lines: &str) {
        let mut lines = lines.to_owned();
        if lines.contains("key-strength = \"warn\"") && !lines.contains("key-policy") {
            lines += "key-policy = \"lenient\"\n";
        }
        let (present, other) = ("\nkdh = \"kdh.pem\"", format!("\nkdh = \"{kdh}\""));
        let text = format!("{lines}{}", configuration());
        assert!(text.contains(present));
        let text = text.replace(present, &other);
        fs::write(self.path("kdh-host.toml"), text).unwrap();
    }

    /// Has the host begin anew, as another one that has the same tokens.
    pub(crate) fn use_store(&self, name: &str) {
        let text = fs::read_to_string(self.path("kdh-host.toml")).unwrap();
        let text = text.replace("\"host.db\"", &format!("\"{name}\""));
        fs::write(self.path("kdh-host.toml"), text).unwrap();
    }

    /// Has the host use a database of PostgreSQL's.
    pub(crate) fn use_postgres(&self) {
        let server = Postgres::shared();
        let name = self.postgres.get_or_init(|| server.new_database().unwrap());
        let store = format!(
            "{{ socket = \"{}\", database = \"{name}\", user = \"{}\" }}",
            server.socket().display(),
            private_postgres::USER
        );
        let text = fs::read_to_string(self.path("kdh-host.toml")).unwrap();
        fs::write(
            self.path("kdh-host.toml"),
            text.replace("\"host.db\"", &store),
        )
        .unwrap();
    }

    /// The database's name, if it is PostgreSQL's.
    pub(crate) fn postgres(&self) -> Option<&str> {
        self.postgres.get().map(String::as_str)
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
        self.connect(address, identity).await.unwrap()
    }

    async fn connect(
        &self,
        address: &str,
        identity: Option<&TlsIdentity>,
    ) -> Result<Channel, ConnectError> {
        let issuers = std::slice::from_ref(&self.ca_ops);
        let config = token_tls::client_config(identity, issuers).unwrap();
        token_tls::connect(address, "kdh.example", config, PATIENCE).await
    }

    /// Of a terminal that has no certificate yet, for whichever of the services.
    pub(crate) async fn terminals_channel(&self, host: &Running) -> Channel {
        self.channel(&host.terminals, None).await
    }

    pub(crate) async fn terminal(&self, host: &Running) -> KeyDistributionClient<Channel> {
        KeyDistributionClient::new(self.terminals_channel(host).await)
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
        add_device(operator, serial_number).await;
        let code = IssueActivationCodeRequest {
            serial_number: serial_number.to_owned(),
        };
        let code = operator.issue_activation_code(code).await.unwrap();
        code.into_inner().code
    }

    pub(crate) async fn operator(&self, host: &Running) -> AdministrationClient<Channel> {
        self.operator_as(host, &self.operators[0]).await
    }

    /// The connection of an operator, for whichever of the host's services: ada, bob, cleo, and the switches.
    pub(crate) async fn operators_channel(&self, host: &Running, operator: usize) -> Channel {
        let identity = &self.operators[operator];
        self.channel(&host.administration, Some(identity)).await
    }

    /// Ada, for BDKs.
    pub(crate) async fn bdks(&self, host: &Running) -> BaseDerivationKeysClient<Channel> {
        BaseDerivationKeysClient::new(self.operators_channel(host, 0).await)
    }

    /// Two operators with the role recovery.
    pub(crate) async fn recoverers(&self, host: &Running) -> [AdministrationClient<Channel>; 2] {
        let [_, bob, cleo, ..] = &self.operators;
        [
            self.operator_as(host, bob).await,
            self.operator_as(host, cleo).await,
        ]
    }

    pub(crate) async fn namesake(&self, host: &Running) -> AdministrationClient<Channel> {
        self.operator_as(host, &self.namesake).await
    }

    pub(crate) async fn namesakes_channel(&self, host: &Running) -> Result<Channel, ConnectError> {
        self.connect(&host.administration, Some(&self.namesake))
            .await
    }

    async fn operator_as(
        &self,
        host: &Running,
        identity: &TlsIdentity,
    ) -> AdministrationClient<Channel> {
        let channel = self.channel(&host.administration, Some(identity)).await;
        AdministrationClient::new(channel)
    }

    /// A terminal that an operator has just added, and that has enrolled and bound since.
    pub(crate) async fn bound(
        &self,
        host: &Running,
        operator: &mut AdministrationClient<Channel>,
        serial_number: &str,
    ) -> Bound {
        let code = self.added(operator, serial_number).await;
        let enrollment = self.enrollment(serial_number, &code);
        let mut stranger = self.terminal(host).await;
        let enrolled = stranger.enroll(enrollment).await.unwrap().into_inner();
        let mut client = self.enrolled(host, serial_number, &enrolled).await;
        let ct_krd = enrolled.ct_krd.clone();
        client.bind(BindRequest { ct_krd }).await.unwrap();
        Bound { client, enrolled }
    }

    /// A statement signed with the key of a terminal.
    pub(crate) fn receipt(&self, serial_number: &str, statement: &impl Message) -> Receipt {
        let name = KeyName::new(&format!("auth.{}", serial_number.to_lowercase())).unwrap();
        let key = self.terminal.signing_key(KeyRole::KrdAuthentication, &name);
        let statement = statement.encode_to_vec();
        Receipt {
            signature: key.unwrap().sign(&statement).unwrap(),
            statement,
        }
    }

    /// A certificate that lies in a file.
    pub(crate) fn certificate(&self, name: &str) -> Certificate {
        Certificate::from_pem(&fs::read_to_string(self.path(name)).unwrap()).unwrap()
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
operators = [
    { certificate = "ada.pem", roles = ["fleet", "keys", "audit"] },
    { certificate = "bob.pem", roles = ["recovery", "keys"] },
    { certificate = "cleo.pem", roles = ["recovery"] },
    { certificate = "switch.pem", roles = ["switch"] },
    { certificate = "standby.pem", roles = ["switch"] },
]
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
    pub(crate) fn certify(&self, subject: &Subject) -> Certificate {
        let issuer = Issuer {
            certificate: &self.certificate,
            signer: &self.key,
        };
        pki::issue_certificate(&issuer, subject).unwrap()
    }

    pub(crate) fn subject(&self, role: Role, common_name: &str, key: &SigningKey) -> Subject {
        let name = role
            .subject(self.certificate.subject(), common_name)
            .unwrap();
        subject(role, name, key)
    }

    pub(crate) fn crl(&self, number: u64, revoked: &[SerialNumber]) -> Vec<u8> {
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

pub(crate) fn subject(role: Role, name: pki::Name, key: &SigningKey) -> Subject {
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

pub(crate) fn serial(len: usize) -> SerialNumber {
    let mut random = vec![0; len];
    random[len - 1] = ISSUED.fetch_add(1, Ordering::Relaxed) + 1;
    SerialNumber::from_random(&random).unwrap()
}

fn token(label: &str) -> Token {
    let module = Module::load(&hsm_modules::library()).unwrap();
    module
        .initialize_token(label, &pin(SO_PIN), &pin(PIN))
        .unwrap();
    open(label)
}

/// A token that nobody has open.
pub(crate) fn open(label: &str) -> Token {
    let module = Module::load(&hsm_modules::library()).unwrap();
    module.open(&TokenConfig::new(label), &pin(PIN)).unwrap()
}

fn pin(pin: &str) -> Pin {
    Pin::new(pin.to_owned().into())
}

/// The label of the master key in the host's token.
const MASTER_KEY: &str = "kn.test";

/// The label of the ZMK in the host's token.
pub(crate) const ZMK: &str = "zmk.switch";

/// Of the master key, and of the ZMK.
pub(crate) const KEY: [u8; 16] = *b"CCCCCCCC&&&&&&&&";

/// As OpenSSL computes it of [`KEY`].
pub(crate) const MASTER_KEY_KCV: [u8; 3] = [0xd4, 0xb1, 0xc0];

/// Registers a device of the model that all have.
pub(crate) async fn add_device(operator: &mut AdministrationClient<Channel>, serial_number: &str) {
    let device = AddDeviceRequest {
        serial_number: serial_number.to_owned(),
        model: "M1".to_owned(),
    };
    operator.add_device(device).await.unwrap();
}

/// Registers the master key.
pub(crate) async fn register_master_key(operator: &mut AdministrationClient<Channel>) {
    let key = RegisterKeyRequest {
        name: "key".to_owned(),
        hsm_label: MASTER_KEY.to_owned(),
        header: "D0000K0AB00E0000".to_owned(),
        kcv: Some(KeyCheckValue {
            method: Method::AesCmac.into(),
            value: MASTER_KEY_KCV.to_vec(),
        }),
    };
    operator.register_key(key).await.unwrap();
}

/// Registers the master key, and gives it to a device in the slot `tmk`.
pub(crate) async fn assign_master_key(
    operator: &mut AdministrationClient<Channel>,
    serial_number: &str,
) {
    register_master_key(operator).await;
    let assignment = AssignKeyRequest {
        serial_number: serial_number.to_owned(),
        slot: "tmk".to_owned(),
        key_name: "key".to_owned(),
        encryption_key_sha256: String::new(),
    };
    operator.assign_key(assignment).await.unwrap();
}

/// The BDK of the examples of ANSI X9.24-3-2017, and its check value, as OpenSSL computes it.
pub(crate) const BDK: [u8; 16] =
    *b"\xFE\xDC\xBA\x98\x76\x54\x32\x10\xF1\xF1\xF1\xF1\xF1\xF1\xF1\xF1";
pub(crate) const BDK_KCV: [u8; 3] = [0xFF, 0x0B, 0xD7];

/// A key of the value [`KEY`].
pub(crate) fn bring_key(token: &Token, label: &str) {
    bring(token, label, &KEY, &MASTER_KEY_KCV);
}

/// A key of the halves of [`KEY`], the other way round.
pub(crate) fn bring_swapped_key(token: &Token, label: &str, kcv: &[u8]) {
    let mut swapped = KEY;
    swapped.rotate_left(8);
    bring(token, label, &swapped, kcv);
}

/// The BDK under the name that operators give it.
pub(crate) fn bring_bdk(token: &Token) {
    bring(token, "bdk.acquirer", &BDK, &BDK_KCV);
}

/// A key of AES-128 in two components.
pub(crate) fn bring(token: &Token, label: &str, value: &[u8; 16], kcv: &[u8]) {
    const MASK: [u8; 16] = *b"a mask of a test";
    let mut combination = token.combine_components(KeyKind::Aes128).unwrap();
    let masked = std::array::from_fn(|at| value[at] ^ MASK[at]);
    for component in [MASK, masked] {
        let component = ClearKey::copy_from(&component);
        combination.add(component).unwrap();
    }
    let kcv = Kcv::new(KcvMethod::AesCmac, kcv).unwrap();
    let name = KeyName::new(label).unwrap();
    combination.finish(&name, &kcv).unwrap();
}

/// Asks for the BDK to be registered, as somebody with the role keys.
pub(crate) fn registering_bdk(name: &str, kind: &str, kcv: &[u8]) -> RegisterBdkRequest {
    RegisterBdkRequest {
        name: name.to_owned(),
        kind: kind.to_owned(),
        kcv: Some(KeyCheckValue {
            method: Method::AesCmac.into(),
            value: kcv.to_vec(),
        }),
    }
}

pub(crate) fn pair(token: &Token, role: KeyRole, label: &str, kind: KeyPairKind) -> SigningKey {
    let name = KeyName::new(label).unwrap();
    token.generate_key_pair(role, &name, kind).unwrap();
    token.signing_key(role, &name).unwrap()
}
