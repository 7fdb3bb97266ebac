//! Keys that arrive encrypted, by the real programs: two operators bring one in in each form, a terminal loads it and
//! reports its check value, and no key crosses between the host and its HSM. OpenSSL and psec make what arrives.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::PathBuf};

use hsm_modules::{KRYOPTIC, Peculiarity, SOFTHSM, TestModule, makers};
use serde_json::Value;
use system_tests::{
    boundary::{Secret, crossings, generated_keys_that_open, value_reads},
    fixture::Fixture,
    host::HostOptions,
    master_key::{MasterKey, kcv},
    on_every_module,
    operator::{answer, text},
    secret_file::random_bytes,
    site::{KEY_OFFICER, OPERATOR, Topology},
    spy::{Call, parse_log},
    terminal::{Terminal, TerminalOptions},
    upstream::{Sent, Upstream},
};
use tr34::{Freshness, KeyKind, OaepHash, Profile, RandomToken};

const DEVICE: &str = "SN-1";
const HEADER: &str = "D0000K0AB00E0000";
/// What a module without TR-31 is told of.
const TR31: &str =
    "importing a key in a TR-31 block inside is not possible with this module, which lacks CKM_";
const KIND: KeyKind = KeyKind::Aes128;

/// A site whose HSM has all keys under which others may come, and what the other systems know.
struct Scene {
    site: Fixture,
    upstream: Upstream,
    zmk: MasterKey,
    kbpk: MasterKey,
    /// Files that arrive.
    folder: PathBuf,
}

/// A key in a form: how operators ask for it, and what must not cross.
struct Arrival {
    name: &'static str,
    arguments: Vec<String>,
    key: [u8; 16],
    /// The keys over it.
    over: Vec<Secret>,
    /// What goes into the HSM.
    encrypted: Vec<u8>,
    /// Where the module cannot.
    lacks: Option<&'static str>,
}

impl Scene {
    fn new(module: &'static TestModule) -> Self {
        let site = Fixture::spied(module, Topology::TwoSubCas);
        let key = |name| MasterKey::generate(name, KeyKind::Aes256).unwrap();
        let (zmk, kbpk) = (key("zmk"), key("kbpk"));
        site.bring_in(&[("zmk.switch", &zmk), ("kbpk.switch", &kbpk)])
            .unwrap();
        site.hold_sample_ceremony("import-pair.toml", &[]).unwrap();
        let upstream = Upstream::new().unwrap();
        upstream.publish(&site.pki("")).unwrap();
        let folder = site.folder().join("arrived");
        fs::create_dir(&folder).unwrap();
        Self {
            site,
            upstream,
            zmk,
            kbpk,
            folder,
        }
    }

    fn oaep(&self) -> OaepHash {
        if self.module().can.oaep_sha256 {
            OaepHash::Sha256
        } else {
            OaepHash::Sha1
        }
    }

    fn module(&self) -> &'static TestModule {
        self.site.hsm_module()
    }

    /// A file with what arrived, as an argument.
    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.folder.join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// As in RFC 3394, or padded as in RFC 5649.
    fn under_zmk(&self, padded: bool) -> Arrival {
        let key = random_bytes::<16>().unwrap();
        let wrapped = makers::key_wrap(&self.zmk.value(), &key, padded);
        let name = if padded { "padded" } else { "under-zmk" };
        let file = self.file(name, &wrapped);
        let zmk = ["zmk", "--zmk", "zmk.switch", "--wrapped", &file];
        let pads = self.module() == &SOFTHSM;
        Arrival {
            name,
            arguments: arguments(&[&zmk[..], if padded { &["--padded"] } else { &[] }].concat()),
            key,
            over: vec![Secret::new("ZMK", &self.zmk.value())],
            encrypted: wrapped,
            lacks: (padded && !pads).then_some("CKM_AES_KEY_WRAP_PAD"),
        }
    }

    fn under_transport_key(&self) -> Arrival {
        let (key, over) = (random_bytes::<16>().unwrap(), random_bytes::<32>().unwrap());
        let public_key = self.site.pki("import-pair.pem");
        let hash = self.oaep().name();
        let transport_key = makers::rsa_oaep(&public_key, hash, &over);
        let wrapped = makers::key_wrap(&over, &key, false);
        let files = [
            self.file("transport-key.bin", &transport_key),
            self.file("under-transport-key.txt", hex::encode(&wrapped).as_bytes()),
        ];
        Arrival {
            name: "under-transport-key",
            arguments: arguments(&[
                "transport-key",
                "--pair",
                "import-pair",
                "--oaep-hash",
                hash,
                "--transport-key",
                &files[0],
                "--wrapped",
                &files[1],
            ]),
            key,
            over: vec![Secret::new("transport key", &over)],
            encrypted: transport_key,
            lacks: None,
        }
    }

    fn in_key_block(&self) -> Arrival {
        let key = random_bytes::<16>().unwrap();
        let block = makers::tr31_block(
            &self.kbpk.value(),
            HEADER,
            &key,
            makers::BlockForm::default(),
        );
        let file = self.file("block.tr31", block.as_bytes());
        Arrival {
            name: "in-key-block",
            arguments: arguments(&[
                "key-block",
                "--protection-key",
                "kbpk.switch",
                "--block",
                &file,
            ]),
            key,
            over: vec![Secret::new("KBPK", &self.kbpk.value())],
            encrypted: Vec::new(),
            lacks: self.module().can.opening.is_empty().then_some(TR31),
        }
    }

    fn in_key_token(&self, freshness: Option<Freshness>) -> Arrival {
        let (key, ke) = (random_bytes::<16>().unwrap(), random_bytes::<32>().unwrap());
        let receiver = self.site.pki("import-krd.pem");
        let token = self.upstream.token(&Sent {
            receiver: &receiver,
            oaep: self.oaep(),
            kn: &key,
            ke: &ke,
            header: HEADER,
            freshness,
        });
        let token = token.unwrap();
        let file = self.file("token.der", &token);
        let parsed = tr34::KeyToken::parse(Profile::X9_2019, &token).unwrap();
        Arrival {
            name: "in-key-token",
            arguments: arguments(&["key-token", "--sender", "switch", "--token", &file]),
            key,
            over: vec![Secret::new("Ke", &ke)],
            encrypted: parsed.enveloped().encrypted_key().to_vec(),
            lacks: None,
        }
    }

    /// Two operators bring the key in.
    fn import(&self, arrival: &Arrival) {
        let kcv = kcv(KIND, &arrival.key).unwrap();
        let (form, rest) = arrival.arguments.split_first().unwrap();
        let announced = [
            "import",
            form,
            arrival.name,
            "--kind",
            KIND.name(),
            "--header",
            HEADER,
            "--kcv",
            &kcv,
            "--why",
            "a test",
        ];
        let rest: Vec<_> = rest.iter().map(String::as_str).collect();
        let asked = self
            .site
            .operate(&[&announced[..], &rest].concat())
            .unwrap();
        assert_eq!(asked["state"], "ASKED");
        let approve = ["import", "approve", text(&asked, "/id").unwrap()];
        let same = self.site.kdhctl(OPERATOR, &approve).unwrap().run().unwrap();
        assert!(same.stderr.contains("SAME_OPERATOR"), "{}", same.stderr);
        let approved = self.site.kdhctl(KEY_OFFICER, &approve).unwrap();
        if let Some(mechanism) = arrival.lacks {
            let ended = approved.run().unwrap();
            let failure: Value = serde_json::from_str(&ended.stderr).unwrap();
            assert_eq!(text(&failure, "/error/reason").unwrap(), "HSM_UNSUPPORTED");
            let message = text(&failure, "/error/message").unwrap();
            assert!(message.contains(mechanism), "{message}");
            return;
        }
        let done = answer(&approved.succeed().unwrap()).unwrap();
        assert_eq!(done["state"], "IMPORTED");
        assert_eq!(done["decided_by"], KEY_OFFICER.name);
    }

    /// The terminal loads the key, and says which it is.
    fn load(&self, terminal: &Terminal, arrival: &Arrival) {
        let assign = [
            "key",
            "assign",
            "--device",
            DEVICE,
            "--slot",
            arrival.name,
            "--key",
            arrival.name,
        ];
        self.site.operate(&assign).unwrap();
        terminal.act(&["load", arrival.name]).unwrap();
        let held = terminal.slot(arrival.name).unwrap().unwrap();
        assert_eq!(held["kcv"], kcv(KIND, &arrival.key).unwrap(), "{held}");
        assert_eq!(held["state"], "held", "{held}");
    }

    fn terminal(&self) -> Terminal {
        let terminal = self.site.make_terminal(DEVICE, TerminalOptions::DEFAULT);
        let terminal = terminal.unwrap();
        let code = self.site.add_device(DEVICE).unwrap();
        terminal.act(&["keygen"]).unwrap();
        terminal.take_code(&code).unwrap();
        terminal.enroll().succeed().unwrap();
        terminal.act(&["bind"]).unwrap();
        terminal
    }

    /// What a run of the host said to its HSM.
    fn calls(&self, run: &str) -> Vec<Call> {
        let log = fs::read_to_string(self.site.log(&format!("spy-{run}"))).unwrap();
        parse_log(&log).unwrap()
    }
}

fn arguments(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(ToString::to_string).collect()
}

fn crossed(calls: &[Call], bytes: &[u8]) -> bool {
    let mut strings = calls.iter().flat_map(Call::byte_strings);
    strings.any(|(_, string)| string.windows(bytes.len()).any(|part| part == bytes))
}

/// In every form that the module can do; the others are refused, naming what is lacking.
fn a_key_in_each_form_reaches_a_terminal_and_none_crosses(module: &'static TestModule) {
    let scene = Scene::new(module);
    let receives = !module.can.opening.is_empty();
    let options = HostOptions {
        key_sender: receives.then_some("signed-within-hours = 1"),
        ..HostOptions::default()
    };
    let host = scene.site.start_host(&options).unwrap();
    let terminal = scene.terminal();
    let mut arrivals = vec![
        scene.under_zmk(false),
        scene.under_zmk(true),
        scene.under_transport_key(),
        scene.in_key_block(),
    ];
    if receives {
        arrivals.push(scene.in_key_token(None));
    }
    for arrival in &arrivals {
        scene.import(arrival);
        if arrival.lacks.is_none() {
            scene.load(&terminal, arrival);
        }
    }
    host.stop().unwrap();

    // After the four ceremonies.
    let calls = scene.calls("host-4");
    for arrival in &arrivals {
        let key = Secret::new(arrival.name, &arrival.key);
        assert_eq!(crossings(&calls, &[key]), [], "{}", arrival.name);
        assert_eq!(crossings(&calls, &arrival.over), [], "{}", arrival.name);
        // The search finds what does cross.
        if arrival.lacks.is_none() && !arrival.encrypted.is_empty() {
            assert!(crossed(&calls, &arrival.encrypted), "{}", arrival.name);
        }
    }
    assert_eq!(value_reads(&calls), []);
    if !receives {
        // Who receives tokens tries that with throw-away keys first.
        assert_eq!(generated_keys_that_open(&calls), []);
    }
}

/// From the nonce to the terminal, where the HSM keeps nonces.
fn a_key_token_answers_a_nonce(module: &'static TestModule) {
    if module.can.opening.is_empty() || module.can.is(Peculiarity::NoData) {
        // Refused at start, and that is tested with the host.
        return;
    }
    let scene = Scene::new(module);
    let options = HostOptions {
        key_sender: Some(""),
        ..HostOptions::default()
    };
    let host = scene.site.start_host(&options).unwrap();
    let terminal = scene.terminal();
    let out = scene.folder.join("rt.der");
    let make = ["import", "nonce", "--sender", "switch", "--out"];
    let make = [&make[..], &[out.to_str().unwrap()]].concat();
    let answered = scene.site.operate(&make).unwrap();
    let again = scene.site.kdhctl(OPERATOR, &make).unwrap().run().unwrap();
    assert!(
        again.stderr.contains("nothing is overwritten"),
        "{}",
        again.stderr
    );
    let nonce = RandomToken::parse(Profile::X9_2019, &fs::read(&out).unwrap()).unwrap();
    let nonce = nonce.nonce().clone();
    assert_eq!(answered["nonce"], hex::encode_upper(nonce.as_bytes()));

    let arrival = scene.in_key_token(Some(Freshness::Nonce(nonce)));
    scene.import(&arrival);
    scene.load(&terminal, &arrival);
    host.stop().unwrap();
    let calls = scene.calls("host-4");
    let key = Secret::new("Kn", &arrival.key);
    assert_eq!(crossings(&calls, &[key]), []);
    assert_eq!(crossings(&calls, &arrival.over), []);
}

/// By an implementation that has nothing in common with ours, in its own dialect.
#[test]
fn a_key_token_that_bouncy_castle_made_reaches_a_terminal() {
    let scene = Scene::new(&KRYOPTIC);
    let (key, folder) = (random_bytes::<16>().unwrap(), scene.folder.clone());
    let sent = Sent {
        receiver: &scene.site.pki("import-krd.pem"),
        oaep: OaepHash::Sha256,
        kn: &key,
        ke: &[0; 32],
        header: HEADER,
        freshness: None,
    };
    // The list has to be there when the host starts.
    scene.upstream.clover(&folder, &sent, &[0; 8]).unwrap();
    let options = HostOptions {
        key_sender: Some("profile = \"clover\"\ncrl = \"../arrived/switch-ca.crl\""),
        ..HostOptions::default()
    };
    let host = scene.site.start_host(&options).unwrap();
    let terminal = scene.terminal();
    let out = folder.join("rt.der");
    let make = ["import", "nonce", "--sender", "switch", "--out"];
    let make = [&make[..], &[out.to_str().unwrap()]].concat();
    let answered = scene.site.operate(&make).unwrap();
    let nonce = hex::decode(text(&answered, "/nonce").unwrap()).unwrap();
    let token = scene.upstream.clover(&folder, &sent, &nonce).unwrap();
    let file = scene.file("token.der", &token);
    let arrival = Arrival {
        name: "by-bouncy-castle",
        arguments: arguments(&["key-token", "--sender", "switch", "--token", &file]),
        key,
        over: Vec::new(),
        encrypted: Vec::new(),
        lacks: None,
    };
    scene.import(&arrival);
    scene.load(&terminal, &arrival);
    host.stop().unwrap();
    let key = Secret::new("Kn", &key);
    assert_eq!(crossings(&scene.calls("host-4"), &[key]), []);
}

on_every_module!(
    a_key_in_each_form_reaches_a_terminal_and_none_crosses,
    a_key_token_answers_a_nonce,
);
