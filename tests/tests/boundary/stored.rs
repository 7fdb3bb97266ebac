//! What crosses when keys of a terminal's own are made and stored, or derived, and delivered, replaced, and brought under
//! other storage keys; and what lies in the database and in the logs afterwards: no key.
//!
//! Nobody ever sees such a key. The test knows them because the terminal's RSA key comes from outside: it can open the
//! tokens that the real terminal gets.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use hsm_modules::{
    SOFTHSM, TestModule,
    makers::{key_unwrap, tr31_opened},
};
use rsa::{PrivateKey, pkcs8::DecodePrivateKey as _};
use sqlx::{Connection as _, SqliteConnection};
use system_tests::{
    boundary::{
        BreachKind, Secret, crossings, files_with, generated_keys_that_open, uses_of_storage_keys,
        value_reads,
    },
    fixture::Fixture,
    host::HostOptions,
    hostile::{open_key_block, unwrap_ke},
    master_key::MasterKey,
    operator::text,
    own_keys::ProfileSlot,
    process::poll,
    programs::Programs,
    site::Topology,
    targets::SharedKeys,
    terminal::{Terminal, TerminalOptions},
};
use tr34::{KeyBlock, KeyKind, KeyToken, Profile};

use super::{DEVICE, calls, crossed, uses};

/// Far above what anything here takes.
const LONG: Duration = Duration::from_mins(2);

/// A base derivation key.
const BDK: &str = "acquirer-2026";

/// A slot with a key that is derived for the terminal.
fn derived() -> ProfileSlot {
    ProfileSlot {
        name: "dukpt".to_owned(),
        header: "D0000B1AX00N0000",
        kind: "AES-128".to_owned(),
        more: "source = \"derived\"\nbdk = \"acquirer-2026\"\nkey-set-id = \"0A1B2C3D\"",
    }
}

/// A slot for every kind of key that the module can seal, made for the terminal.
fn made(site: &Fixture) -> Vec<ProfileSlot> {
    let keys = site.keys.deliverable(site.hsm_module());
    let slot = |key: &MasterKey| ProfileSlot {
        name: key.name.clone(),
        header: key.header(),
        kind: key.kind.to_string(),
        more: "",
    };
    keys.into_iter().map(slot).collect()
}

/// What a terminal holds in its life.
struct Life {
    terminal: Terminal,
    private: PrivateKey,
    /// Kn and Ke, of each delivery.
    secrets: Vec<Secret>,
    /// Kn of the newest one, by slot.
    held: BTreeMap<String, Vec<u8>>,
    deliveries: usize,
}

impl Life {
    /// A terminal without keys.
    fn begin(site: &Fixture) -> Self {
        let options = TerminalOptions {
            imported_keys: true,
            ..TerminalOptions::default()
        };
        let terminal = site.make_terminal(DEVICE, options).unwrap();
        let pem = site.folder().join("krd-private.pem");
        terminal.import_encryption_key(&pem).unwrap();
        let code = site.add_device(DEVICE).unwrap();
        terminal.act(&["keygen"]).unwrap();
        terminal.take_code(&code).unwrap();
        terminal.enroll().succeed().unwrap();
        terminal.act(&["bind"]).unwrap();
        Self {
            terminal,
            private: PrivateKey::from_pkcs8_pem(&fs::read_to_string(&pem).unwrap()).unwrap(),
            secrets: Vec::new(),
            held: BTreeMap::new(),
            deliveries: 0,
        }
    }

    /// Loads what a slot is to hold, and opens it besides.
    fn load(&mut self, slot: &str) {
        let loaded = self.terminal.act(&["load", slot]).unwrap();
        assert_eq!(loaded["slots"][0]["outcome"], "loaded", "{loaded}");
        let token = fs::read(self.terminal.evidence().join("kt-kdh.der")).unwrap();
        let token = KeyToken::parse(Profile::X9_2019, &token).unwrap();
        let ke = unwrap_ke(&self.private, &token).unwrap();
        let block = open_key_block(token.enveloped(), &ke).unwrap();
        let block = KeyBlock::parse(Profile::X9_2019, &block).unwrap();
        self.deliveries += 1;
        let number = self.deliveries;
        let kn = Secret::new(&format!("Kn {number}"), block.expose_clear());
        let held = block.expose_clear().to_vec();
        self.held.insert(slot.to_owned(), held);
        self.secrets.extend([kn, Secret::new("Ke", &ke)]);
    }
}

/// The keys as they lie in the database.
async fn stored(site: &Fixture) -> Vec<Vec<u8>> {
    let stored = sqlx::query_scalar("SELECT wrapped FROM device_keys WHERE wrapped IS NOT NULL");
    stored.fetch_all(&mut database(site).await).await.unwrap()
}

/// Has every key exported, and waits until that is done. Says slot and record of each.
fn export(site: &Fixture, keys: &SharedKeys, form: &str) -> Vec<(String, String)> {
    let target = site
        .agree_on_target(&keys.kcvs().unwrap(), form, form, &["--files"])
        .unwrap();
    site.operate(&["target", "fill", form]).unwrap();
    let id = text(&target, "/id").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    poll(LONG, || {
        let records =
            sqlx::query_as("SELECT slot, exported, state FROM export_records WHERE target = $1");
        let records: Vec<(String, Option<String>, String)> = runtime.block_on(async {
            let mut database = database(site).await;
            records.bind(id).fetch_all(&mut database).await.unwrap()
        });
        let is_made = !records.is_empty() && records.iter().all(|(.., state)| state != "QUEUED");
        let records = records
            .into_iter()
            .map(|(slot, exported, state)| (slot, exported.unwrap_or(state)));
        Ok(is_made.then(|| records.collect()))
    })
    .unwrap()
}

/// Whether the storage keys have been changed.
async fn is_over(site: &Fixture) -> bool {
    let ended = sqlx::query_scalar("SELECT COUNT(*) FROM approvals WHERE state = 'ENDED'");
    let ended: i64 = ended.fetch_one(&mut database(site).await).await.unwrap();
    ended == 1
}

async fn database(site: &Fixture) -> SqliteConnection {
    let database = site.folder().join("host").join("kdh.sqlite");
    let database = format!("sqlite://{}", database.display());
    SqliteConnection::connect(&database).await.unwrap()
}

/// As psec reads blocks.
fn opened(under: &[u8], blocks: &[(String, String)]) -> Vec<String> {
    let blocks: Vec<_> = blocks.iter().map(|(_, block)| block.clone()).collect();
    tr31_opened(under, &blocks)
}

fn options(program: Option<PathBuf>) -> HostOptions {
    HostOptions {
        program,
        key_policy: "lenient",
        ..HostOptions::default()
    }
}

fn no_stored_key_crosses(module: &'static TestModule) {
    let site = Fixture::with_spied_host(module, Topology::TwoSubCas);
    let bdk = MasterKey::generate(BDK, KeyKind::Aes256).unwrap();
    let shared = SharedKeys::generate().unwrap();
    let label = format!("bdk.{BDK}");
    site.bring_in(&[&[(&*label, &bdk)][..], &shared.labelled()].concat())
        .unwrap();
    let host = site.start_host(&options(None)).unwrap();
    let kcv = bdk.kcv().unwrap();
    let register = ["bdk", "register", BDK, "--kind", "AES-256", "--kcv", &kcv];
    site.operate(&register).unwrap();
    let made = made(&site);
    // What comes from another source is one slot more.
    let slots = [&made[..], &[derived()]].concat();
    site.carry_profile(&slots).unwrap();
    let mut life = Life::begin(&site);
    for (name, key) in [
        ("the BDK", &bdk),
        ("the key over exported ones", &shared.under),
        ("the key of MACs", &shared.mac),
    ] {
        life.secrets.push(Secret::new(name, &key.value()));
    }
    // Made and delivered, and replaced.
    for _ in 0..2 {
        for slot in &slots {
            site.assign_by_profile(DEVICE, &slot.name).unwrap();
            life.load(&slot.name);
        }
    }
    // Brought under another storage key while the next one of each is not delivered yet.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for slot in &slots {
        site.assign_by_profile(DEVICE, &slot.name).unwrap();
    }
    let before = runtime.block_on(stored(&site));
    site.approve_rotation().unwrap();
    // Whoever asked the host for it would have the spy's lines mixed.
    poll(LONG, || Ok(runtime.block_on(is_over(&site)).then_some(()))).unwrap();
    let moved = runtime.block_on(stored(&site));
    for slot in &slots {
        life.load(&slot.name);
    }
    let listed = site.operate(&["audit", "list"]).unwrap();
    let confirmed = listed["records"].as_array().unwrap().iter();
    let confirmed = confirmed.filter(|record| record["action"] == "delivery.confirmed");
    assert_eq!(confirmed.count(), life.deliveries);
    // To a payment switch, in each form that the module can do inside.
    let exported = export(&site, &shared, "key-wrap");
    let blocks = if module.name == SOFTHSM.name {
        Vec::new()
    } else {
        export(&site, &shared, "tr31")
    };
    let folders = ["host", "logs", "operators"].map(|folder| site.folder().join(folder));
    // With what SQLite has not brought into its file yet.
    assert_eq!(files_with(&folders, &life.secrets).unwrap(), []);
    host.stop().unwrap();

    let ceremony = calls(&site, "ceremony-more-0");
    assert_eq!(crossings(&ceremony, &life.secrets), []);
    let host = calls(&site, "host-1");
    assert_eq!(crossings(&host, &life.secrets), []);
    assert_eq!(value_reads(&host), []);
    assert_eq!(generated_keys_that_open(&host), []);
    let uses_of_storage_keys = Vec::from_iter(uses_of_storage_keys(&host));
    assert_eq!(uses_of_storage_keys, ["C_UnwrapKey", "C_WrapKey"]);
    assert_eq!(files_with(&folders, &life.secrets).unwrap(), []);

    // The search would have found them: it finds what did cross, and what does lie there.
    assert_eq!([before.len(), moved.len()], [2 * made.len(); 2]);
    for key in before.iter().chain(&moved) {
        assert!(
            crossed(&host, key),
            "out of C_WrapKey, and into C_UnwrapKey"
        );
    }
    assert_eq!(exported.len(), slots.len());
    let under = shared.under.value();
    for (slot, key) in &exported {
        let key = hex::decode(key).unwrap();
        assert!(crossed(&host, &key), "out of C_WrapKey");
        assert_eq!(key_unwrap(&under, &key), life.held[slot], "{slot}");
    }
    for ((slot, _), opened) in blocks.iter().zip(opened(&under, &blocks)) {
        let held = hex::encode(&life.held[slot]);
        assert_eq!(opened.rsplit(' ').next(), Some(&*held), "{slot}");
    }
    let wrapped: Vec<_> = moved
        .iter()
        .map(|key| Secret::new("a stored key", key))
        .collect();
    let found = files_with(&folders, &wrapped).unwrap();
    assert!(
        found.iter().any(|(file, _)| file.ends_with("kdh.sqlite")),
        "{found:?}"
    );
    assert!(
        uses(&host, "C_DeriveKey") >= 3,
        "each initial key, to be delivered"
    );
    let unwrapped = before.len() + 3 * made.len();
    assert!(
        uses(&host, "C_UnwrapKey") >= unwrapped,
        "to be moved and to be delivered"
    );
}

/// One that is stored as well.
#[test]
fn a_host_that_leaks_stored_keys_is_found_out() {
    let site = Fixture::with_spied_host(&SOFTHSM, Topology::TwoSubCas);
    let shared = SharedKeys::generate().unwrap();
    site.bring_in(&shared.labelled()).unwrap();
    let leaky = options(Some(Programs::built().leaky_host()));
    let host = site.start_host(&leaky).unwrap();
    let slots = made(&site);
    site.carry_profile(&slots).unwrap();
    let mut life = Life::begin(&site);
    for slot in &slots {
        site.assign_by_profile(DEVICE, &slot.name).unwrap();
        life.load(&slot.name);
    }
    host.stop().unwrap();
    // And one that is exported.
    let host = site.start_host(&leaky).unwrap();
    assert_eq!(export(&site, &shared, "key-wrap").len(), slots.len());
    host.stop().unwrap();
    for run in ["host-1", "host-2"] {
        let found = crossings(&calls(&site, run), &life.secrets);
        for number in 1..=life.deliveries {
            let kn = format!("Kn {number}");
            let is_it = |kind: &BreachKind| {
                matches!(kind, BreachKind::Crossed { secret, function, .. }
                    if *secret == kn && function == "C_Decrypt")
            };
            assert!(
                found.iter().any(|breach| is_it(&breach.kind)),
                "{run}, {kn}: {found:?}"
            );
        }
    }
}

system_tests::on_every_module!(no_stored_key_crosses);
