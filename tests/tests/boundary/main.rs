//! What crosses between the host's side and its HSM: no key. The ceremonies and the host run with
//! `pkcs11-spy` in front of the module, and every byte string in its logs is looked at.
//!
//! The test knows what to look for: Kn from the components, and each Ke because the terminal has its
//! keys in memory and can open its tokens.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stored;

use std::{fs, path::PathBuf};

use hsm_modules::TestModule;
use kdh_proto::v1::{BindRequest, ConfirmRequest, RequestKeyRequest};
use rsa::{PrivateKey, pkcs8::DecodePrivateKey as _};
use system_tests::{
    boundary::{BreachKind, Secret, crossings, generated_keys_that_open, value_reads},
    fixture::Fixture,
    host::HostOptions,
    hostile::{SoftTerminal, connect, load_certificate, open_key_block, unwrap_ke},
    master_key::MasterKey,
    on_every_module,
    programs::Programs,
    site::Topology,
    spy::{Call, parse_log},
    terminal::TerminalOptions,
};
use tr34::{KeyBlock, KeyToken, KrdNonce, Profile, RandomToken};

const DEVICE: &str = "SN-1";

/// What the terminal learned, and what anybody could see.
struct Delivery {
    /// As the HSM has it, and as its components make it.
    kn: [Vec<u8>; 2],
    ke: Vec<u8>,
    encrypted_key: Vec<u8>,
    ciphertext: Vec<u8>,
}

/// Delivers every kind of key to a terminal in memory, and stops the host, so that the spy's log is
/// whole.
fn deliver(site: &Fixture, program: Option<PathBuf>) -> Vec<Delivery> {
    let options = HostOptions {
        program,
        ..HostOptions::default()
    };
    let host = site.start_host(&options).unwrap();
    let code = site.add_device(DEVICE).unwrap();
    let keys = site.keys.deliverable(site.hsm_module());
    for key in &keys {
        site.register_key(key).unwrap();
        site.assign_key(DEVICE, &key.name, key).unwrap();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let delivered = runtime.block_on(load(site, &code, &keys));
    assert_eq!(
        site.deliveries(DEVICE).unwrap(),
        vec!["CONFIRMED"; keys.len()]
    );
    host.stop().unwrap();
    delivered
}

async fn load(site: &Fixture, code: &str, keys: &[&MasterKey]) -> Vec<Delivery> {
    let address = site.addresses().unwrap().terminals;
    let ca_ops = load_certificate(&site.pki("ca-ops.pem")).unwrap();
    let terminal = SoftTerminal::new(DEVICE).unwrap();
    let request = terminal.enroll_request(code).unwrap();
    let mut anonymous = connect(&address, &ca_ops, None).await.unwrap();
    let enrolled = anonymous.enroll(request).await.unwrap().into_inner();
    let identity = terminal.identity(&enrolled).unwrap();
    let mut client = connect(&address, &ca_ops, Some(&identity)).await.unwrap();
    let ct_krd = enrolled.ct_krd.clone();
    client.bind(BindRequest { ct_krd }).await.unwrap();

    let mut delivered = Vec::new();
    for (number, key) in (1..).zip(keys.iter().copied()) {
        let request = RequestKeyRequest {
            slot: key.name.clone(),
            rt_krd: RandomToken::new(KrdNonce::from_bytes([number; 16])).to_der(),
        };
        let issued = client.request_key(request).await.unwrap().into_inner();
        let token = KeyToken::parse(Profile::X9_2019, &issued.kt_kdh).unwrap();
        let enveloped = token.enveloped();
        let ke = terminal.unwrap_ke(&token).unwrap();
        let block = open_key_block(enveloped, &ke).unwrap();
        assert_eq!(
            KeyBlock::parse(Profile::X9_2019, &block)
                .unwrap()
                .expose_clear(),
            key.held_by(site.hsm_module()),
            "this Ke opens to this Kn"
        );
        let receipt = terminal.receipt(&terminal.statement(&key.name, key.header(), &issued));
        let receipt = Some(receipt);
        client.confirm(ConfirmRequest { receipt }).await.unwrap();
        delivered.push(Delivery {
            kn: [key.held_by(site.hsm_module()), key.value()],
            ke,
            encrypted_key: enveloped.encrypted_key().to_vec(),
            ciphertext: enveloped.ciphertext().to_vec(),
        });
    }
    delivered
}

fn secrets(delivered: &[Delivery]) -> Vec<Secret> {
    delivered
        .iter()
        .flat_map(|delivery| {
            let [held, sum] = &delivery.kn;
            [
                Secret::new("Kn", held),
                Secret::new("Kn", sum),
                Secret::new("Ke", &delivery.ke),
            ]
        })
        .collect()
}

/// The calls of one program's run.
fn calls(site: &Fixture, run: &str) -> Vec<Call> {
    let log = fs::read_to_string(site.log(&format!("spy-{run}"))).unwrap();
    parse_log(&log).unwrap()
}

/// Whether these bytes crossed, in one piece: what shows that the search finds what is there.
fn crossed(calls: &[Call], bytes: &[u8]) -> bool {
    let mut strings = calls.iter().flat_map(Call::byte_strings);
    strings.any(|(_, string)| string.windows(bytes.len()).any(|part| part == bytes))
}

fn uses(calls: &[Call], function: &str) -> usize {
    calls
        .iter()
        .filter(|call| call.function == function)
        .count()
}

fn no_key_crosses(module: &'static TestModule, topology: Topology) {
    let site = Fixture::spied(module, topology);
    let delivered = deliver(&site, None);
    let secrets = secrets(&delivered);

    let pki = calls(&site, "ceremony-pki-0");
    let keys = calls(&site, "ceremony-keys-1");
    let host = calls(&site, "host-2");
    for log in [&pki, &keys, &host] {
        assert_eq!(crossings(log, &secrets), []);
        assert_eq!(value_reads(log), []);
    }
    // On the host every generated key is a Ke, or the self-test's of one.
    assert_eq!(generated_keys_that_open(&host), []);
    // In a ceremony keys are combined under one that is generated for it, and nothing is decrypted.
    assert_eq!(uses(&keys, "C_DecryptInit"), 0);
    assert_eq!(uses(&pki, "C_DecryptInit"), 0);

    // The search would have found them: it finds what did cross.
    for key in site.keys.deliverable(module) {
        for half in key
            .components
            .iter()
            .flat_map(|component| component.chunks_exact(8))
        {
            assert!(crossed(&keys, half), "components go in, in pieces");
        }
    }
    for delivery in &delivered {
        assert!(crossed(&host, &delivery.encrypted_key));
        // The key's own blocks are where C_WrapKey gives them.
        let blocks: Vec<_> = delivery.ciphertext.chunks_exact(16).collect();
        assert!(blocks.iter().all(|block| crossed(&host, block)));
    }
    assert!(
        uses(&host, "C_WrapKey") >= 2 * delivered.len(),
        "Kn under Ke, Ke under the terminal's key"
    );
}

fn no_key_crosses_under_two_sub_cas(module: &'static TestModule) {
    no_key_crosses(module, Topology::TwoSubCas);
}

fn no_key_crosses_under_a_single_sub_ca(module: &'static TestModule) {
    no_key_crosses(module, Topology::SingleSubCa);
}

fn a_host_that_leaks_is_found_out(module: &'static TestModule) {
    let site = Fixture::spied(module, Topology::TwoSubCas);
    let delivered = deliver(&site, Some(Programs::built().leaky_host()));
    let host = calls(&site, "host-2");

    let found = crossings(&host, &secrets(&delivered));
    let of_kn = found.iter().filter(|breach| {
        matches!(&breach.kind, BreachKind::Crossed { secret, function, .. }
            if secret == "Kn" && function == "C_Decrypt")
    });
    assert!(
        of_kn.count() >= delivered.len(),
        "each Kn was decrypted: {found:?}"
    );
    assert_ne!(generated_keys_that_open(&host), [], "under a generated key");
}

/// The same in front of the terminal's token. Its RSA key comes from outside, so that the test can open
/// Ke; it comes before the spy does.
fn what_crosses_on_a_terminal(module: &'static TestModule) {
    let site = Fixture::new(module, Topology::TwoSubCas);
    let host = site.start_host(&HostOptions::default()).unwrap();
    let options = TerminalOptions {
        imported_keys: true,
        spied: true,
        ..TerminalOptions::default()
    };
    let terminal = site.make_terminal(DEVICE, options).unwrap();
    let pem = site.folder().join("krd-private.pem");
    terminal.import_encryption_key(&pem).unwrap();
    let code = site.add_device(DEVICE).unwrap();
    let keys = site.keys.deliverable(module);
    for key in &keys {
        site.register_key(key).unwrap();
        site.assign_key(DEVICE, &key.name, key).unwrap();
    }
    terminal.act(&["keygen"]).unwrap();
    terminal.take_code(&code).unwrap();
    terminal.enroll().succeed().unwrap();
    terminal.act(&["bind"]).unwrap();

    let private = PrivateKey::from_pkcs8_pem(&fs::read_to_string(&pem).unwrap()).unwrap();
    for key in keys {
        terminal.act(&["load", &key.name]).unwrap();
        let token = fs::read(terminal.evidence().join("kt-kdh.der")).unwrap();
        let token = KeyToken::parse(Profile::X9_2019, &token).unwrap();
        let ke = unwrap_ke(&private, &token).unwrap();
        let kn = key.held_by(module);
        let secrets = [Secret::new("Kn", &kn), Secret::new("Ke", &ke)];

        let log = fs::read_to_string(terminal.spy_log()).unwrap();
        let calls = parse_log(&log).unwrap();
        let found = crossings(&calls, &secrets);
        let encrypted_key = token.enveloped().encrypted_key();
        assert!(crossed(&calls, encrypted_key), "the token went in");
        if site.terminal_module().can.opening.is_empty() {
            // Opened in process memory, as the configuration accepts: Kn comes out and goes in again.
            let kn = found.iter().filter(|breach| {
                matches!(&breach.kind, BreachKind::Crossed { secret, .. } if secret == "Kn")
            });
            assert!(kn.count() >= 2, "{found:?}");
        } else {
            assert_eq!(found, []);
            assert_eq!(uses(&calls, "C_DecryptInit"), 0);
        }
    }
    host.stop().unwrap();
}

on_every_module!(
    what_crosses_on_a_terminal,
    no_key_crosses_under_two_sub_cas,
    no_key_crosses_under_a_single_sub_ca,
    a_host_that_leaks_is_found_out,
);
