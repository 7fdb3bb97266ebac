//! Bad input at the gRPC surface: a table per call, each case differing from a good call in one
//! thing. Every case asserts the exact reason; every table asserts what became of the device and of
//! the audit trail.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::too_many_lines, reason = "a table is as long as its cases")]

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU32, Ordering},
};

use hsm_modules::TestModule;
use kdh_proto::{
    Reason, ReasonedStatus,
    v1::{
        BindRequest, ConfirmRequest, EnrollRequest, EnrollResponse, KeyCheckValue,
        ListAssignmentsRequest, Receipt, ReceiptStatement, RequestKeyRequest, RequestKeyResponse,
        key_check_value::Method, key_distribution_client::KeyDistributionClient,
    },
};
use pki::{Certificate, Issuer, Role, SerialNumber, Subject, issue_certificate, issue_root};
use serde_json::Value;
use system_tests::{
    host::{Host, HostOptions},
    hostile::{Identity, SoftKey, SoftTerminal, connect, generate, load_certificate},
    master_key::MasterKey,
    on_every_module,
    operator::{answer, text},
    process::Ended,
    programs::Programs,
    site::{AUDITOR, FLEET_OPERATOR, KEY_OFFICER, NOBODY, OPERATOR, Operator, Site, Topology},
};
use tonic::{Code, Status, transport::Channel};
use tr34::{KeyKind, KrdCredentialToken, KrdNonce, Profile, RandomToken};

const SLOT: &str = "tmk";

type Client = KeyDistributionClient<Channel>;

/// A host with a key, and terminals at every stage.
struct Lab {
    site: Site,
    _host: Host,
    address: String,
    ca_ops: Certificate,
    key: MasterKey,
    /// Of 24 bytes, which is no whole number of AES blocks.
    unaligned: MasterKey,
    serials: AtomicU32,
    folder: tempfile::TempDir,
}

/// A terminal with its certificates and a connection.
struct Enrolled {
    terminal: SoftTerminal,
    response: EnrollResponse,
    client: Client,
}

impl Lab {
    fn open(module: &'static TestModule) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = Site::create(
            &folder.path().join("site"),
            Programs::built(),
            Topology::TwoSubCas,
            module,
        )
        .unwrap();
        let key = MasterKey::generate("tmk", KeyKind::Aes128).unwrap();
        let unaligned = MasterKey::generate("tmk3", KeyKind::Aes192).unwrap();
        site.make_tokens().unwrap();
        site.hold_pki_ceremony().unwrap();
        site.hold_key_ceremony(&[key.clone(), unaligned.clone()])
            .unwrap();
        site.carry_tokens_away().unwrap();
        let host = site.start_host(&HostOptions::default()).unwrap();
        site.register_key(&key).unwrap();
        Self {
            address: site.addresses().unwrap().terminals,
            ca_ops: load_certificate(&site.pki("ca-ops.pem")).unwrap(),
            site,
            _host: host,
            key,
            unaligned,
            serials: AtomicU32::new(1),
            folder,
        }
    }

    async fn anonymous(&self) -> Client {
        connect(&self.address, &self.ca_ops, None).await.unwrap()
    }

    /// A registered terminal with its activation code.
    fn registered(&self) -> (SoftTerminal, String) {
        let number = self.serials.fetch_add(1, Ordering::Relaxed);
        let serial = format!("BAD-{number}");
        let code = self.site.add_device(&serial).unwrap();
        (SoftTerminal::new(&serial).unwrap(), code)
    }

    async fn enrolled(&self) -> Enrolled {
        let (terminal, code) = self.registered();
        self.enrol(terminal, &code).await
    }

    async fn enrol(&self, terminal: SoftTerminal, code: &str) -> Enrolled {
        let request = terminal.enroll_request(code).unwrap();
        let response = self
            .anonymous()
            .await
            .enroll(request)
            .await
            .unwrap()
            .into_inner();
        let identity = terminal.identity(&response).unwrap();
        let client = connect(&self.address, &self.ca_ops, Some(&identity))
            .await
            .unwrap();
        Enrolled {
            terminal,
            response,
            client,
        }
    }

    /// Bound, with the key assigned.
    async fn bound(&self) -> Enrolled {
        let mut enrolled = self.enrolled().await;
        let ct_krd = enrolled.response.ct_krd.clone();
        enrolled.client.bind(BindRequest { ct_krd }).await.unwrap();
        self.site
            .assign_key(&enrolled.terminal.serial, SLOT, &self.key)
            .unwrap();
        enrolled
    }

    fn state(&self, serial: &str) -> String {
        self.site.device_state(serial).unwrap()
    }

    /// Outcomes on the audit trail of a device, oldest first.
    fn outcomes(&self, serial: &str) -> Vec<String> {
        let records = self.site.operate(&["audit", "list"]).unwrap();
        let records = find_array(&records).cloned().unwrap_or_default();
        records
            .iter()
            .filter(|record| record["device"] == serial)
            .map(|record| record["outcome"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// The rows of an answer that lists something.
fn find_array(answer: &Value) -> Option<&Vec<Value>> {
    answer
        .as_array()
        .or_else(|| answer.as_object()?.values().find_map(Value::as_array))
}

/// What went otherwise than expected.
#[derive(Default)]
struct Verdict {
    cases: usize,
    wrong: Vec<String>,
}

impl Verdict {
    fn case<T>(&mut self, name: &str, expected: Reason, outcome: Result<T, Status>) {
        self.cases += 1;
        let found = match outcome {
            Ok(_) => "accepted".to_owned(),
            Err(status) if status.reason() == Some(expected) => {
                // A terminal learns the reason and nothing else.
                if status.message() == expected.as_str() && status.code() == expected.code() {
                    return;
                }
                format!("says more than its reason: {status:?}")
            }
            Err(status) => format!("{:?} {status:?}", status.reason()),
        };
        let expected = expected.as_str();
        self.wrong
            .push(format!("{name}: not {expected} but {found}"));
    }

    fn same<T: PartialEq + std::fmt::Debug>(&mut self, name: &str, found: &T, expected: &T) {
        if found != expected {
            self.wrong
                .push(format!("{name}: not {expected:?} but {found:?}"));
        }
    }
}

fn every_bad_input_is_refused_for_its_reason(module: &'static TestModule) {
    let lab = Lab::open(module);
    let mut verdict = Verdict::default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        enroll(&lab, &mut verdict).await;
        activation_codes(&lab, &mut verdict).await;
        identities(&lab, &mut verdict).await;
        bind(&lab, &mut verdict).await;
        request_key(&lab, &mut verdict).await;
        confirm(&lab, &mut verdict).await;
        stopped_devices(&lab, &mut verdict).await;
        enrolled_again(&lab, &mut verdict).await;
        revoked_certificate(&lab, &mut verdict).await;
    });
    administration(&lab, &mut verdict);
    lab.site.verify_audit().unwrap();
    let mut report = String::new();
    for wrong in &verdict.wrong {
        writeln!(report, "  {wrong}").unwrap();
    }
    if !verdict.wrong.is_empty() {
        let kept = lab.folder.path().display().to_string();
        std::mem::forget(lab.folder);
        panic!(
            "{} of {} cases ({kept}):\n{report}",
            verdict.wrong.len(),
            verdict.cases
        );
    }
    assert!(verdict.cases >= 75, "only {} cases", verdict.cases);
}

/// One thing that is wrong with an otherwise good request.
type Spoil<T> = Box<dyn Fn(&mut T)>;

fn spoil<T>(change: impl Fn(&mut T) + 'static) -> Spoil<T> {
    Box::new(change)
}

/// Flips a bit of the last byte.
fn flip_end(bytes: &mut [u8]) {
    *bytes.last_mut().unwrap() ^= 1;
}

async fn enroll(lab: &Lab, verdict: &mut Verdict) {
    use Reason::{CsrInvalid, EnrollmentRefused, KeyInUse, KeyTooWeak};
    let other = lab.enrolled().await.terminal;
    let (_, other_code) = lab.registered();
    let weak = generate(&["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]).unwrap();
    let weak = openssl_csr(lab, &weak);
    let (rsa, p256) = (SoftKey::rsa(2048).unwrap(), SoftKey::p256().unwrap());
    let (rsa, p256) = (rsa.csr("CN=X").unwrap(), p256.csr("CN=X").unwrap());
    let theirs = other.enroll_request("").unwrap();
    let their_p256 = theirs.authentication_csr.clone();

    let table: Vec<(&str, Reason, Spoil<EnrollRequest>)> = vec![
        (
            "unknown serial number",
            EnrollmentRefused,
            spoil(|r: &mut EnrollRequest| r.serial_number = "NOBODY-1".into()),
        ),
        (
            "no serial number",
            EnrollmentRefused,
            spoil(|r: &mut EnrollRequest| r.serial_number.clear()),
        ),
        (
            "serial number in lower case",
            EnrollmentRefused,
            spoil(|r: &mut EnrollRequest| r.serial_number = r.serial_number.to_lowercase()),
        ),
        (
            "serial number with a blank",
            EnrollmentRefused,
            spoil(|r: &mut EnrollRequest| r.serial_number.push(' ')),
        ),
        (
            "overlong serial number",
            EnrollmentRefused,
            spoil(|r: &mut EnrollRequest| r.serial_number = "A".repeat(10_000)),
        ),
        (
            "wrong activation code",
            EnrollmentRefused,
            spoil(|r: &mut EnrollRequest| r.activation_code = "0000-0000-0000-0000".into()),
        ),
        (
            "no activation code",
            EnrollmentRefused,
            spoil(|r: &mut EnrollRequest| r.activation_code.clear()),
        ),
        (
            "another device's activation code",
            EnrollmentRefused,
            spoil(move |r: &mut EnrollRequest| r.activation_code.clone_from(&other_code)),
        ),
        (
            "request with a changed signature",
            CsrInvalid,
            spoil(|r: &mut EnrollRequest| flip_end(&mut r.encryption_csr)),
        ),
        (
            "request with a changed key",
            CsrInvalid,
            spoil(|r: &mut EnrollRequest| {
                let middle = r.encryption_csr.len() / 3;
                r.encryption_csr[middle] ^= 1;
            }),
        ),
        (
            "truncated request",
            CsrInvalid,
            spoil(|r: &mut EnrollRequest| {
                r.encryption_csr.pop();
            }),
        ),
        (
            "request with a byte behind it",
            CsrInvalid,
            spoil(|r: &mut EnrollRequest| r.encryption_csr.push(0)),
        ),
        (
            "no request",
            CsrInvalid,
            spoil(|r: &mut EnrollRequest| r.encryption_csr.clear()),
        ),
        (
            "overlong request",
            CsrInvalid,
            spoil(|r: &mut EnrollRequest| r.encryption_csr.resize(100_000, 0)),
        ),
        (
            "authentication request with a changed signature",
            CsrInvalid,
            spoil(|r: &mut EnrollRequest| flip_end(&mut r.authentication_csr)),
        ),
        (
            "no authentication request",
            CsrInvalid,
            spoil(|r: &mut EnrollRequest| r.authentication_csr.clear()),
        ),
        (
            "RSA key of 1024 bits",
            KeyTooWeak,
            spoil(move |r: &mut EnrollRequest| r.encryption_csr.clone_from(&weak)),
        ),
        (
            "P-256 key for encryption",
            KeyTooWeak,
            spoil(move |r: &mut EnrollRequest| r.encryption_csr.clone_from(&p256)),
        ),
        (
            "RSA key for authentication",
            KeyTooWeak,
            spoil(move |r: &mut EnrollRequest| r.authentication_csr.clone_from(&rsa)),
        ),
        (
            "another device's encryption key",
            KeyInUse,
            spoil(move |r: &mut EnrollRequest| r.encryption_csr.clone_from(&theirs.encryption_csr)),
        ),
        (
            "another device's authentication key",
            KeyInUse,
            spoil(move |r: &mut EnrollRequest| r.authentication_csr.clone_from(&their_p256)),
        ),
    ];
    // Few wrong codes per device, so that none is locked by this table.
    let mut client = lab.anonymous().await;
    for (name, expected, spoil) in table {
        let (terminal, code) = lab.registered();
        let good = terminal.enroll_request(&code).unwrap();
        let mut bad = good.clone();
        spoil(&mut bad);
        verdict.case(name, expected, client.enroll(bad).await);
        verdict.same(name, &lab.state(&terminal.serial), &"REGISTERED".to_owned());
        // Nothing was consumed: the good request is still taken.
        let after = client.enroll(good).await;
        verdict.same(name, &after.err().map(|status| status.reason()), &None);
        verdict.same(name, &lab.state(&terminal.serial), &"ENROLLED".to_owned());
    }
}

/// A certificate request that the product's own code would not make.
fn openssl_csr(lab: &Lab, key_pem: &str) -> Vec<u8> {
    let key = lab.folder.path().join("weak.pem");
    std::fs::write(&key, key_pem).unwrap();
    let made = std::process::Command::new("openssl")
        .args(["req", "-new", "-subj", "/CN=X", "-outform", "DER", "-key"])
        .arg(&key)
        .output()
        .unwrap();
    assert!(made.status.success());
    made.stdout
}

async fn activation_codes(lab: &Lab, verdict: &mut Verdict) {
    let refused = Reason::EnrollmentRefused;
    let mut client = lab.anonymous().await;

    // Locked after five wrong tries, also for the right code.
    let (terminal, code) = lab.registered();
    for _ in 0..5 {
        let wrong = terminal.enroll_request("ZZZZ-ZZZZ-ZZZZ-ZZZZ").unwrap();
        verdict.case("wrong code", refused, client.enroll(wrong).await);
    }
    let right = terminal.enroll_request(&code).unwrap();
    verdict.case("locked code", refused, client.enroll(right.clone()).await);
    let outcomes = lab.outcomes(&terminal.serial);
    let counted = outcomes.iter().filter(|o| *o == refused.as_str()).count();
    verdict.same("wrong tries on the trail", &counted, &5);
    // A new code unlocks.
    let new_code = lab.site.activation_code(&terminal.serial).unwrap();
    verdict.case("replaced code", refused, client.enroll(right).await);
    let with_new = terminal.enroll_request(&new_code).unwrap();
    let taken = client.enroll(with_new.clone()).await;
    verdict.same("new code", &taken.is_ok(), &true);

    // Used: only the very same enrolment is answered again.
    let again = client.enroll(with_new).await.unwrap().into_inner();
    verdict.same("repeated enrolment", &again, &taken.unwrap().into_inner());
    let mut stranger = SoftTerminal::new(&terminal.serial).unwrap();
    let request = stranger.enroll_request(&new_code).unwrap();
    verdict.case(
        "used code, other keys",
        refused,
        client.enroll(request).await,
    );
    stranger.encryption = terminal.encryption.clone();
    let request = stranger.enroll_request(&new_code).unwrap();
    verdict.case(
        "used code, one other key",
        refused,
        client.enroll(request).await,
    );

    for (name, act) in [
        ("suspended device", "suspend"),
        ("revoked device", "revoke"),
    ] {
        let (terminal, code) = lab.registered();
        stop(lab, act, &terminal.serial);
        let request = terminal.enroll_request(&code).unwrap();
        verdict.case(name, refused, client.enroll(request).await);
    }
}

fn stop(lab: &Lab, act: &str, serial: &str) {
    let mut arguments = vec!["device", act, serial, "--why", "for a test"];
    if act == "revoke" {
        arguments.push("--yes");
    }
    lab.site.operate(&arguments).unwrap();
}

/// A CA with the real one's name and another key.
fn impostor(lab: &Lab) -> (Certificate, SoftKey) {
    let real = load_certificate(&lab.site.pki("ca-krd.pem")).unwrap();
    let root_key = SoftKey::rsa(3072).unwrap();
    let ca_key = SoftKey::rsa(3072).unwrap();
    let subject = |role, name: &pki::Name, key: &SoftKey| Subject {
        role,
        name: name.clone(),
        public_key: pki::Signer::public_key(key).clone(),
        serial: SerialNumber::from_random(&[7, 1, 2, 3, 4, 5, 6, 8]).unwrap(),
        validity: real.validity(),
        hosts: Vec::new(),
    };
    let root = issue_root(&root_key, &subject(Role::RootCa, real.issuer(), &root_key)).unwrap();
    let issuer = Issuer {
        certificate: &root,
        signer: &root_key,
    };
    let ca = subject(Role::SubCa, real.subject(), &ca_key);
    (issue_certificate(&issuer, &ca).unwrap(), ca_key)
}

/// A certificate by the impostor.
fn forged(ca: &(Certificate, SoftKey), role: Role, serial: &str, key: &SoftKey) -> Certificate {
    let issuer = Issuer {
        certificate: &ca.0,
        signer: &ca.1,
    };
    let subject = Subject {
        role,
        name: role.subject(ca.0.subject(), serial).unwrap(),
        public_key: pki::Signer::public_key(key).clone(),
        serial: SerialNumber::from_random(&[9, 1, 2, 3, 4, 5, 6, 8]).unwrap(),
        validity: ca.0.validity(),
        hosts: Vec::new(),
    };
    issue_certificate(&issuer, &subject).unwrap()
}

async fn identities(lab: &Lab, verdict: &mut Verdict) {
    let mismatch = Reason::IdentityMismatch;
    let mut client = lab.anonymous().await;
    let ct_krd = Vec::new();
    verdict.case(
        "Bind without identity",
        mismatch,
        client.bind(BindRequest { ct_krd }).await,
    );
    let list = ListAssignmentsRequest {};
    verdict.case(
        "ListAssignments without identity",
        mismatch,
        client.list_assignments(list).await,
    );
    let request = key_request(1);
    verdict.case(
        "RequestKey without identity",
        mismatch,
        client.request_key(request).await,
    );
    let confirm = ConfirmRequest { receipt: None };
    verdict.case(
        "Confirm without identity",
        mismatch,
        client.confirm(confirm).await,
    );

    // Refused by TLS: there is no call to answer.
    let enrolled = lab.enrolled().await;
    let ca = impostor(lab);
    let serial = &enrolled.terminal.serial;
    let forged_tls = forged(&ca, Role::KrdTls, serial, &enrolled.terminal.authentication);
    let ct_krd = KrdCredentialToken::parse(Profile::X9_2019, &enrolled.response.ct_krd).unwrap();
    let encryption = Certificate::from_der(ct_krd.certificate()).unwrap();
    let strangers = [
        (
            "TLS certificate of another CA",
            forged_tls,
            &enrolled.terminal.authentication,
        ),
        (
            "encryption certificate for TLS",
            encryption,
            &enrolled.terminal.encryption,
        ),
    ];
    for (name, certificate, key) in strangers {
        let identity = Identity {
            certificate,
            key: key.clone(),
        };
        let outcome = match connect(&lab.address, &lab.ca_ops, Some(&identity)).await {
            Ok(mut client) => client
                .list_assignments(ListAssignmentsRequest {})
                .await
                .map_err(|status| status.reason()),
            Err(_) => Err(None),
        };
        verdict.cases += 1;
        verdict.same(name, &outcome.map(|_| ()), &Err(None));
    }

    // Enrolled again: the old certificates count no more.
    let Enrolled {
        terminal,
        response,
        client: mut old,
    } = enrolled;
    let code = lab.site.activation_code(&terminal.serial).unwrap();
    let mut fresh = lab
        .enrol(SoftTerminal::new(&terminal.serial).unwrap(), &code)
        .await;
    let rejected = Reason::CredentialRejected;
    let list = ListAssignmentsRequest {};
    verdict.case(
        "superseded TLS certificate",
        rejected,
        old.list_assignments(list).await,
    );
    let ct_krd = response.ct_krd;
    verdict.case(
        "superseded CT_KRD",
        rejected,
        fresh.client.bind(BindRequest { ct_krd }).await,
    );
}

/// A certificate that stands on a new revocation list, while its terminal is connected.
async fn revoked_certificate(lab: &Lab, verdict: &mut Verdict) {
    let rejected = Reason::CredentialRejected;
    let mut bound = lab.bound().await;
    let ct_krd = KrdCredentialToken::parse(Profile::X9_2019, &bound.response.ct_krd).unwrap();
    let encryption = Certificate::from_der(ct_krd.certificate()).unwrap();
    revoke_by_crl(lab, encryption.serial());
    let request = key_request(1);
    verdict.case(
        "encryption certificate on the CRL",
        rejected,
        bound.client.request_key(request).await,
    );
    let ct_krd = bound.response.ct_krd.clone();
    verdict.case(
        "Bind with it",
        rejected,
        bound.client.bind(BindRequest { ct_krd }).await,
    );
    verdict.same(
        "state",
        &lab.state(&bound.terminal.serial),
        &"BOUND".to_owned(),
    );
    // Others go on.
    let mut other = lab.bound().await;
    let taken = other.client.request_key(key_request(1)).await.is_ok();
    verdict.same("not on the CRL", &taken, &true);
}

/// Holds the ceremony that re-issues a revocation list, and puts the list in the old one's place.
fn revoke_by_crl(lab: &Lab, serial: &SerialNumber) {
    let place = lab.site.hsm().unwrap();
    let pki = lab.site.pki("");
    let plan = format!(
        "title = \"crl\"\noutput = \"{0}\"\ntranscript = \"crl-2.jsonl\"\n\
         confirmation = \"unattended\"\n\n[tokens.issuing]\nmodule = \"{1}\"\n\
         label = \"issuing\"\npin-file = \"{2}\"\n\n[[acts]]\nact = \"crl\"\n\
         issuer = {{ token = \"issuing\", key = \"ca-krd\", certificate = \"{0}/ca-krd.pem\" }}\n\
         number = 2\nprevious = \"{0}/crl-ca-krd.der\"\ndays = 30\nfile = \"crl-ca-krd-2.der\"\n\n\
         [[acts.revoked]]\nserial = \"{serial}\"\nat = \"2026-01-01T00:00:00Z\"\n",
        pki.display(),
        lab.site.module().unwrap().display(),
        place.pin_file("issuing").display(),
    );
    let path = lab.folder.path().join("crl-plan.toml");
    std::fs::write(&path, plan).unwrap();
    place
        .program(
            Programs::built().path("kdh-ceremony"),
            &lab.site.log("kdh-ceremony"),
        )
        .arg("run")
        .arg(&path)
        .succeed()
        .unwrap();
    std::fs::rename(pki.join("crl-ca-krd-2.der"), pki.join("crl-ca-krd.der")).unwrap();
}

async fn bind(lab: &Lab, verdict: &mut Verdict) {
    use Reason::{CredentialRejected, IdentityMismatch, TokenMalformed};
    let mut enrolled = lab.enrolled().await;
    let other = lab.enrolled().await;
    let serial = enrolled.terminal.serial.clone();
    let good = enrolled.response.ct_krd.clone();
    let token = |certificate: &Certificate| {
        KrdCredentialToken::new(certificate.der())
            .unwrap()
            .to_der(Profile::X9_2019)
    };
    let ca = impostor(lab);
    let impostors = forged(&ca, Role::Krd, &serial, &enrolled.terminal.encryption);
    let authentication =
        Certificate::from_der(&enrolled.response.authentication_certificate).unwrap();
    let spoiled = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let table = [
        ("empty CT_KRD", TokenMalformed, Vec::new()),
        (
            "truncated CT_KRD",
            TokenMalformed,
            spoiled(|t| {
                t.pop();
            }),
        ),
        (
            "CT_KRD with a byte behind it",
            TokenMalformed,
            spoiled(|t| t.push(0)),
        ),
        (
            "CT_KRD of 100,000 bytes",
            TokenMalformed,
            vec![0x30; 100_000],
        ),
        (
            "certificate without its token",
            TokenMalformed,
            authentication.der().to_vec(),
        ),
        (
            "changed certificate",
            CredentialRejected,
            spoiled(|t| {
                let signature = t.len() - 20;
                t[signature] ^= 1;
            }),
        ),
        (
            "CT_KRD of another device",
            IdentityMismatch,
            other.response.ct_krd.clone(),
        ),
        (
            "authentication certificate",
            CredentialRejected,
            token(&authentication),
        ),
        (
            "certificate of another CA",
            CredentialRejected,
            token(&impostors),
        ),
        (
            "the host's own certificate",
            CredentialRejected,
            token(&load_certificate(&lab.site.pki("kdh.pem")).unwrap()),
        ),
        (
            "a CA's certificate",
            CredentialRejected,
            token(&load_certificate(&lab.site.pki("ca-krd.pem")).unwrap()),
        ),
    ];
    for (name, expected, ct_krd) in table {
        let outcome = enrolled.client.bind(BindRequest { ct_krd }).await;
        verdict.case(name, expected, outcome);
        verdict.same(name, &lab.state(&serial), &"ENROLLED".to_owned());
        let newest = lab.outcomes(&serial).pop();
        verdict.same(name, &newest, &Some(expected.as_str().to_owned()));
    }
    verdict.same(
        "good CT_KRD",
        &enrolled
            .client
            .bind(BindRequest { ct_krd: good })
            .await
            .is_ok(),
        &true,
    );
}

fn key_request(nonce: u8) -> RequestKeyRequest {
    RequestKeyRequest {
        slot: SLOT.to_owned(),
        rt_krd: RandomToken::new(KrdNonce::from_bytes([nonce; 16])).to_der(),
    }
}

/// An `RT_KRD` with a nonce of any length.
fn random_token(nonce_len: u8) -> Vec<u8> {
    let oid = [
        0x06, 0x0A, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x19, 0x03,
    ];
    let mut nonce = vec![0x04, nonce_len];
    nonce.extend((0..nonce_len).map(|byte| byte ^ 0x55));
    let set_len = u8::try_from(nonce.len()).unwrap();
    let total = u8::try_from(oid.len() + 2 + nonce.len()).unwrap();
    [&[0x30, total], &oid[..], &[0x31, set_len], &nonce].concat()
}

async fn request_key(lab: &Lab, verdict: &mut Verdict) {
    use Reason::{NoKeyAssigned, NonceInvalid, NonceReused, NotBound, TokenMalformed};
    let mut enrolled = lab.enrolled().await;
    verdict.case(
        "before Bind",
        NotBound,
        enrolled.client.request_key(key_request(1)).await,
    );
    let list = ListAssignmentsRequest {};
    verdict.case(
        "list before Bind",
        NotBound,
        enrolled.client.list_assignments(list).await,
    );

    let mut bound = lab.bound().await;
    let serial = bound.terminal.serial.clone();
    let token = |change: fn(&mut Vec<u8>)| {
        let mut request = key_request(2);
        change(&mut request.rt_krd);
        request
    };
    let nonce = |len: u8| RequestKeyRequest {
        rt_krd: random_token(len),
        ..key_request(0)
    };
    let slot = |slot: &str| RequestKeyRequest {
        slot: slot.to_owned(),
        ..key_request(3)
    };
    let table = [
        ("empty RT_KRD", TokenMalformed, token(Vec::clear)),
        (
            "truncated RT_KRD",
            TokenMalformed,
            token(|t| {
                t.pop();
            }),
        ),
        (
            "RT_KRD with a byte behind it",
            TokenMalformed,
            token(|t| t.push(0)),
        ),
        ("another attribute", TokenMalformed, token(|t| t[13] ^= 1)),
        (
            "RT_KRD of 100,000 bytes",
            TokenMalformed,
            token(|t| t.resize(100_000, 0)),
        ),
        ("no nonce", NonceInvalid, nonce(0)),
        ("nonce of 8 bytes", NonceInvalid, nonce(8)),
        ("nonce of 15 bytes", NonceInvalid, nonce(15)),
        ("nonce of 17 bytes", NonceInvalid, nonce(17)),
        ("unknown slot", NoKeyAssigned, slot("other")),
        ("no slot", NoKeyAssigned, slot("")),
        (
            "malformed slot",
            NoKeyAssigned,
            slot("TMK'; DROP TABLE keys"),
        ),
    ];
    for (name, expected, request) in table {
        verdict.case(name, expected, bound.client.request_key(request).await);
        let newest = lab.outcomes(&serial).pop();
        verdict.same(name, &newest, &Some(expected.as_str().to_owned()));
    }
    verdict.same(
        "no delivery",
        &lab.site.deliveries(&serial).unwrap().len(),
        &0,
    );

    bound.client.request_key(key_request(4)).await.unwrap();
    verdict.case(
        "repeated nonce",
        NonceReused,
        bound.client.request_key(key_request(4)).await,
    );
    verdict.same(
        "one delivery",
        &lab.site.deliveries(&serial).unwrap(),
        &vec!["ISSUED".to_owned()],
    );
    // Another device may happen to choose the same nonce.
    let mut other = lab.bound().await;
    verdict.same(
        "same nonce elsewhere",
        &other.client.request_key(key_request(4)).await.is_ok(),
        &true,
    );
}

async fn issued(bound: &mut Enrolled, nonce: u8) -> RequestKeyResponse {
    bound
        .client
        .request_key(key_request(nonce))
        .await
        .unwrap()
        .into_inner()
}

async fn confirm(lab: &Lab, verdict: &mut Verdict) {
    use Reason::{DeliveryUnknown, KcvMismatch, ReceiptInvalid};
    let header = lab.key.header();
    let mut bound = lab.bound().await;
    let serial = bound.terminal.serial.clone();
    let mut other = lab.bound().await;
    let others = issued(&mut other, 1).await.delivery_id;
    let superseded = issued(&mut bound, 1).await.delivery_id;
    let good_response = issued(&mut bound, 2).await;
    let good = bound.terminal.statement(SLOT, header, &good_response);

    let table: Vec<(&str, Reason, Spoil<ReceiptStatement>)> = vec![
        (
            "another context",
            ReceiptInvalid,
            spoil(|s: &mut ReceiptStatement| s.context.push('2')),
        ),
        (
            "another serial number",
            ReceiptInvalid,
            spoil(|s: &mut ReceiptStatement| s.serial_number = "BAD-0".into()),
        ),
        (
            "unknown delivery",
            DeliveryUnknown,
            spoil(|s: &mut ReceiptStatement| s.delivery_id = "00".repeat(16)),
        ),
        (
            "no delivery",
            DeliveryUnknown,
            spoil(|s: &mut ReceiptStatement| s.delivery_id.clear()),
        ),
        (
            "another device's delivery",
            DeliveryUnknown,
            spoil(move |s: &mut ReceiptStatement| s.delivery_id.clone_from(&others)),
        ),
        (
            "superseded delivery",
            DeliveryUnknown,
            spoil(move |s: &mut ReceiptStatement| s.delivery_id.clone_from(&superseded)),
        ),
        (
            "another slot",
            ReceiptInvalid,
            spoil(|s: &mut ReceiptStatement| s.slot = "other".into()),
        ),
        (
            "another version",
            ReceiptInvalid,
            spoil(|s: &mut ReceiptStatement| s.key_version += 1),
        ),
        (
            "another header",
            ReceiptInvalid,
            spoil(|s: &mut ReceiptStatement| s.header = "D0000P0AE00E0000".into()),
        ),
        (
            "another token",
            ReceiptInvalid,
            spoil(|s: &mut ReceiptStatement| s.kt_kdh_sha256[0] ^= 1),
        ),
        (
            "no token",
            ReceiptInvalid,
            spoil(|s: &mut ReceiptStatement| s.kt_kdh_sha256.clear()),
        ),
        (
            "no check value",
            ReceiptInvalid,
            spoil(|s: &mut ReceiptStatement| s.kcv = None),
        ),
        (
            "check value without method",
            ReceiptInvalid,
            spoil(|s: &mut ReceiptStatement| s.kcv.as_mut().unwrap().method = 0),
        ),
        (
            "check value of an unknown method",
            ReceiptInvalid,
            spoil(|s: &mut ReceiptStatement| s.kcv.as_mut().unwrap().method = 9),
        ),
        (
            "check value of 2 bytes",
            ReceiptInvalid,
            spoil(|s: &mut ReceiptStatement| s.kcv.as_mut().unwrap().value.truncate(2)),
        ),
        (
            "check value of 6 bytes",
            ReceiptInvalid,
            spoil(|s: &mut ReceiptStatement| s.kcv.as_mut().unwrap().value.resize(6, 0)),
        ),
    ];
    for (name, expected, spoil) in table {
        let mut statement = good.clone();
        spoil(&mut statement);
        let receipt = Some(bound.terminal.receipt(&statement));
        let outcome = bound.client.confirm(ConfirmRequest { receipt }).await;
        verdict.case(name, expected, outcome);
        verdict.same(name, &lab.state(&serial), &"BOUND".to_owned());
        let newest = lab.outcomes(&serial).pop();
        verdict.same(name, &newest, &Some(expected.as_str().to_owned()));
    }

    let receipt = bound.terminal.receipt(&good);
    let spoiled = |change: fn(&mut Receipt)| {
        let mut bad = receipt.clone();
        change(&mut bad);
        Some(bad)
    };
    let strangers = other.terminal.receipt(&good);
    let table = [
        ("no receipt", None),
        ("empty receipt", Some(Receipt::default())),
        ("no signature", spoiled(|r| r.signature.clear())),
        ("changed signature", spoiled(|r| flip_end(&mut r.signature))),
        (
            "statement changed after signing",
            spoiled(|r| r.statement.push(0)),
        ),
        ("signature of another device", Some(strangers)),
    ];
    for (name, receipt) in table {
        let outcome = bound.client.confirm(ConfirmRequest { receipt }).await;
        verdict.case(name, ReceiptInvalid, outcome);
    }
    let garbage = b"no statement".to_vec();
    let receipt = Receipt {
        signature: bound.terminal.authentication.sign(&garbage),
        statement: garbage,
    };
    let outcome = bound
        .client
        .confirm(ConfirmRequest {
            receipt: Some(receipt),
        })
        .await;
    verdict.case("signed garbage", ReceiptInvalid, outcome);

    // Through all of that the delivery stayed open; the good receipt closes it, once and again.
    let receipt = Some(bound.terminal.receipt(&good));
    for name in ["good receipt", "good receipt, repeated"] {
        let request = ConfirmRequest {
            receipt: receipt.clone(),
        };
        verdict.same(name, &bound.client.confirm(request).await.is_ok(), &true);
    }
    let confirmed = lab.outcomes(&serial);
    verdict.same("confirmed once", &confirmed.last(), &Some(&"ok".to_owned()));

    // A wrong check value is the terminal's word against the host's: quarantine.
    let wrong: [(&str, Spoil<KeyCheckValue>); 2] = [
        (
            "wrong check value",
            spoil(|kcv: &mut KeyCheckValue| kcv.value[0] ^= 1),
        ),
        (
            "check value of another method",
            spoil(|kcv: &mut KeyCheckValue| kcv.set_method(Method::TdeaEcb)),
        ),
    ];
    for (name, change) in wrong {
        let mut bound = lab.bound().await;
        let serial = bound.terminal.serial.clone();
        let response = issued(&mut bound, 1).await;
        let mut statement = bound.terminal.statement(SLOT, header, &response);
        change(statement.kcv.as_mut().unwrap());
        let receipt = Some(bound.terminal.receipt(&statement));
        let outcome = bound.client.confirm(ConfirmRequest { receipt }).await;
        verdict.case(name, KcvMismatch, outcome);
        verdict.same(name, &lab.state(&serial), &"QUARANTINED".to_owned());
        verdict.same(
            name,
            &lab.site.deliveries(&serial).unwrap(),
            &vec!["MISMATCH".to_owned()],
        );
        let outcome = bound.client.request_key(key_request(9)).await;
        verdict.case("quarantined device", Reason::DeviceQuarantined, outcome);
    }
}

async fn stopped_devices(lab: &Lab, verdict: &mut Verdict) {
    for (act, reason) in [
        ("suspend", Reason::DeviceSuspended),
        ("revoke", Reason::DeviceRevoked),
    ] {
        let mut bound = lab.bound().await;
        let response = issued(&mut bound, 1).await;
        stop(lab, act, &bound.terminal.serial);
        let client = &mut bound.client;
        let ct_krd = bound.response.ct_krd.clone();
        verdict.case(act, reason, client.bind(BindRequest { ct_krd }).await);
        let list = ListAssignmentsRequest {};
        verdict.case(act, reason, client.list_assignments(list).await);
        verdict.case(act, reason, client.request_key(key_request(2)).await);
        let statement = bound.terminal.statement(SLOT, lab.key.header(), &response);
        let receipt = Some(bound.terminal.receipt(&statement));
        verdict.case(
            act,
            reason,
            client.confirm(ConfirmRequest { receipt }).await,
        );
        let serial = &bound.terminal.serial;
        verdict.same(
            act,
            &lab.site.deliveries(serial).unwrap(),
            &vec!["ISSUED".to_owned()],
        );
    }
}

/// Whoever gets an activation code for a device that has keys can enrol another one under its serial
/// number, and gets none of these keys.
async fn enrolled_again(lab: &Lab, verdict: &mut Verdict) {
    let nothing = Reason::NoKeyAssigned;
    let mut before = lab.bound().await;
    let serial = before.terminal.serial.clone();
    let response = issued(&mut before, 1).await;

    let code = lab
        .site
        .kdhctl(FLEET_OPERATOR, &["device", "code", &serial]);
    let code = answer(&code.unwrap().succeed().unwrap()).unwrap();
    let code = text(&code, "/code").unwrap();
    let mut after = lab.enrol(SoftTerminal::new(&serial).unwrap(), code).await;
    let ct_krd = after.response.ct_krd.clone();
    after.client.bind(BindRequest { ct_krd }).await.unwrap();
    let list = ListAssignmentsRequest {};
    let listed = after.client.list_assignments(list).await.unwrap();
    verdict.same("listed", &listed.into_inner().assignments.len(), &0);
    verdict.case(
        "a key that was meant for another",
        nothing,
        after.client.request_key(key_request(2)).await,
    );
    let statement = after.terminal.statement(SLOT, lab.key.header(), &response);
    let receipt = Some(after.terminal.receipt(&statement));
    verdict.case(
        "a delivery to another",
        Reason::DeliveryUnknown,
        after.client.confirm(ConfirmRequest { receipt }).await,
    );
    verdict.case(
        "the one before",
        Reason::CredentialRejected,
        before.client.request_key(key_request(3)).await,
    );

    let shown = lab.site.kdhctl(KEY_OFFICER, &["device", "show", &serial]);
    let shown = answer(&shown.unwrap().succeed().unwrap()).unwrap();
    verdict.same("withheld", &shown["withheld"][0]["slot"], &SLOT.into());
    let key = after.terminal.encryption.public_key().fingerprint();
    let key = key.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    verdict.same(
        "its key",
        &shown["encryption_key_sha256"],
        &key.clone().into(),
    );
    let assign = |expected: &str| {
        let arguments = [
            "key",
            "assign",
            "--device",
            &serial,
            "--slot",
            SLOT,
            "--key",
            &lab.key.name,
            "--encryption-key",
            expected,
        ];
        let officer = lab.site.kdhctl(KEY_OFFICER, &arguments).unwrap();
        officer.run().unwrap()
    };
    let other = "0".repeat(key.len());
    verdict.same(
        "another key",
        &reason(&assign(&other)),
        &"WRONG_STATE".into(),
    );
    verdict.case(
        "assigned to another key",
        nothing,
        after.client.request_key(key_request(2)).await,
    );
    verdict.same("this key", &reason(&assign(&key)), &Value::Null);
    let taken = after.client.request_key(key_request(2)).await;
    verdict.same("assigned anew", &taken.is_ok(), &true);
}

/// Why `kdhctl` did not do it; null if it did.
fn reason(ended: &Ended) -> Value {
    serde_json::from_str::<Value>(&ended.stderr).unwrap_or_default()["error"]["reason"].clone()
}

fn administration(lab: &Lab, verdict: &mut Verdict) {
    lab.site.add_device("ADMIN-1").unwrap();
    let kcv = lab.key.kcv().unwrap();
    let unaligned_kcv = lab.unaligned.kcv().unwrap();
    let register = |name: &'static str, label: String, header: &'static str, kcv: String| {
        [
            "key",
            "register",
            name,
            "--hsm-label",
            &label,
            "--header",
            header,
            "--kcv",
            &kcv,
        ]
        .map(str::to_owned)
        .to_vec()
    };
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    let header = lab.key.header();
    let mut table: Vec<(&str, Operator, &str, Vec<String>)> = vec![
        (
            "fleet may not register keys",
            FLEET_OPERATOR,
            "ROLE_MISSING",
            register("k1", lab.key.label(), header, kcv.clone()),
        ),
        (
            "fleet may not assign keys",
            FLEET_OPERATOR,
            "ROLE_MISSING",
            words(&[
                "key", "assign", "--device", "ADMIN-1", "--slot", "s", "--key", "tmk",
            ]),
        ),
        (
            "fleet may not read the trail",
            FLEET_OPERATOR,
            "ROLE_MISSING",
            words(&["audit", "list"]),
        ),
        (
            "keys may not add devices",
            KEY_OFFICER,
            "ROLE_MISSING",
            words(&["device", "add", "ADMIN-2", "--model", "M"]),
        ),
        (
            "keys may not issue codes",
            KEY_OFFICER,
            "ROLE_MISSING",
            words(&["device", "code", "ADMIN-1"]),
        ),
        (
            "audit may not suspend",
            AUDITOR,
            "ROLE_MISSING",
            words(&["device", "suspend", "ADMIN-1", "--why", "w"]),
        ),
        (
            "audit may not assign keys",
            AUDITOR,
            "ROLE_MISSING",
            words(&[
                "key", "assign", "--device", "ADMIN-1", "--slot", "s", "--key", "tmk",
            ]),
        ),
        (
            "an empty list denies",
            NOBODY,
            "ROLE_MISSING",
            words(&["device", "list"]),
        ),
        (
            "malformed serial number",
            OPERATOR,
            "REQUEST_INVALID",
            words(&["device", "add", "admin_2", "--model", "M"]),
        ),
        (
            "serial number that is taken",
            OPERATOR,
            "ALREADY_EXISTS",
            words(&["device", "add", "ADMIN-1", "--model", "M"]),
        ),
        (
            "unknown device",
            OPERATOR,
            "NOT_FOUND",
            words(&["device", "show", "ADMIN-9"]),
        ),
        (
            "resuming what runs",
            OPERATOR,
            "WRONG_STATE",
            words(&["device", "resume", "ADMIN-1", "--why", "w"]),
        ),
        (
            "malformed slot",
            OPERATOR,
            "REQUEST_INVALID",
            words(&[
                "key", "assign", "--device", "ADMIN-1", "--slot", "a.b", "--key", "tmk",
            ]),
        ),
        (
            "unknown key",
            OPERATOR,
            "NOT_FOUND",
            words(&[
                "key", "assign", "--device", "ADMIN-1", "--slot", "s", "--key", "none",
            ]),
        ),
        (
            "key name that is taken",
            OPERATOR,
            "ALREADY_EXISTS",
            register("tmk", lab.key.label(), header, kcv.clone()),
        ),
        (
            "label that is registered",
            OPERATOR,
            "ALREADY_EXISTS",
            register("k2", lab.key.label(), header, kcv.clone()),
        ),
        (
            "label that is not in the HSM",
            OPERATOR,
            "NOT_FOUND",
            register("k3", "kn.none".to_owned(), header, kcv.clone()),
        ),
        (
            "wrong check value",
            OPERATOR,
            "KCV_MISMATCH",
            register("k4", lab.key.label(), header, "000000".to_owned()),
        ),
        (
            "header of another algorithm",
            OPERATOR,
            "REQUEST_INVALID",
            register("k5", lab.key.label(), "D0000K0TB00E0000", kcv.clone()),
        ),
    ];
    if !lab.site.hsm_module().can.unaligned {
        table.push((
            "a key that this HSM cannot seal",
            OPERATOR,
            "HSM_UNSUPPORTED",
            register("k7", lab.unaligned.label(), header, unaligned_kcv),
        ));
    }
    let refusals = || -> Vec<String> {
        let records = lab.site.operate(&["audit", "list"]).unwrap();
        let records = find_array(&records).cloned().unwrap_or_default();
        records
            .iter()
            .filter(|record| record["action"] == "operator.refused")
            .map(|record| record["outcome"].as_str().unwrap().to_owned())
            .collect()
    };
    let mut on_record = refusals();
    for (name, operator, expected, arguments) in table {
        verdict.cases += 1;
        // Looking at something is no act.
        if expected == "ROLE_MISSING" || arguments[1] != "show" {
            on_record.push(expected.to_owned());
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ended = lab
            .site
            .kdhctl(operator, &arguments)
            .unwrap()
            .run()
            .unwrap();
        let found = serde_json::from_str::<Value>(&ended.stderr)
            .ok()
            .and_then(|answer| {
                let error = &answer["error"];
                if expected == "HSM_UNSUPPORTED" {
                    let message = error["message"].as_str()?;
                    assert!(
                        message.contains("CKM_CONCATENATE_DATA_AND_BASE"),
                        "{message}"
                    );
                }
                if expected == "KCV_MISMATCH" {
                    let message = error["message"].as_str()?;
                    assert!(!message.contains(&kcv), "tells the right one: {message}");
                }
                Some(error["reason"].as_str()?.to_owned())
            });
        verdict.same(name, &found, &Some(expected.to_owned()));
    }
    verdict.same("refusals on the trail", &refusals(), &on_record);
    verdict.same(
        "still registered",
        &lab.state("ADMIN-1"),
        &"REGISTERED".to_owned(),
    );
    assert_eq!(Reason::RoleMissing.code(), Code::PermissionDenied);
}

on_every_module!(every_bad_input_is_refused_for_its_reason);
