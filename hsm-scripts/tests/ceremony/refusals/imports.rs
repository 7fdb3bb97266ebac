//! Keys that arrived encrypted: what is not as announced is not taken.

use std::fs;

use hsm_modules::{
    KRYOPTIC, SOFTHSM,
    makers::{key_wrap, openssl, rsa_oaep},
};
use tr34::{Profile, RandomToken};

use super::{Chapter, run, said, with_files};
use crate::{
    site::{FIRST, FIRST_KCV, IMPORT_PAIR, KEY, SUM, Site, assert_success, change, unattended},
    wrapped::{key_token, make_nonce, other_host, plan},
};

const OVER: [u8; 32] = [0x7E; 32];
const TRANSPORT: &str = "transport-key.bin";

/// What is different from a good import.
struct Case {
    wrong: &'static str,
    plan: String,
    files: Vec<(&'static str, Vec<u8>)>,
}

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

/// A plan of the sample's, for a key with the check value of the first component.
pub(super) fn plan_of(number: usize) -> String {
    plan(number)
        .replace("\"CBDF95\"", &format!("\"{FIRST_KCV}\""))
        .replace("\"AES-256\"", "\"AES-128\"")
}

/// A key over others, from components, with the value of their sum.
pub(super) fn bring_in(site: &Site, label: &str) {
    assert_success(&run(site, &change(&with_files(site), KEY, label)));
}

/// Each is refused, and the token has the same keys as before; then the good one is taken.
fn assert_refused(
    chapter: &mut Chapter,
    site: &Site,
    (good, files): (&str, &[(&'static str, Vec<u8>)]),
    cases: Vec<Case>,
) {
    let keys = site.keys("kdh");
    let write = |files: &[(&str, Vec<u8>)]| {
        for (name, contents) in files {
            fs::write(site.path(name), contents).unwrap();
        }
    };
    for case in cases {
        write(files);
        write(&case.files);
        let output = run(site, &case.plan);
        assert!(!output.status.success(), "{}", case.wrong);
        let mut said = said(site, &output);
        // Of a key that is another each time.
        if let Ok(kcv) = fs::read_to_string(site.path("kcv")) {
            said = said.replace(&kcv, "…");
        }
        chapter.case(case.wrong, said);
        assert_eq!(site.keys("kdh"), keys, "{}", case.wrong);
    }
    write(files);
    assert_success(&run(site, good));
    assert_eq!(site.keys("kdh").len(), keys.len() + 1);
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

#[test]
fn keys_under_keys() {
    hsm_modules::on(&[&SOFTHSM], |_| {
        let site = Site::new(&["kdh", "issuing"]);
        let mut chapter = Chapter::new(
            5,
            "Keys under an import pair (RSA-OAEP) or a ZMK, by AES key wrap",
        );
        let pair = &IMPORT_PAIR[..IMPORT_PAIR.rfind("[[acts]]").unwrap()];
        assert_success(&run(&site, &unattended(pair)));
        bring_in(&site, "zmk.switch");
        under_pair(&mut chapter, &site);
        under_zmk(&mut chapter, &site);
        chapter.assert_is_in_the_book();
    });
}

fn under_pair(chapter: &mut Chapter, site: &Site) {
    let kn = bytes(FIRST);
    let good = change(
        &plan_of(0),
        "oaep-hash = \"sha256\"",
        "oaep-hash = \"sha1\"",
    );
    let public = site.path("import-pair.pem");
    let transport = rsa_oaep(&public, "sha1", &OVER);
    let wrapped = key_wrap(&OVER, &kn, false);
    let file = "switch-one.bin";
    let by_openssl = |options: &[&str]| {
        let of = [
            "pkeyutl",
            "-encrypt",
            "-pubin",
            "-inkey",
            public.to_str().unwrap(),
        ];
        let options = options.iter().flat_map(|option| ["-pkeyopt", option]);
        openssl(&of.into_iter().chain(options).collect::<Vec<_>>(), &OVER)
    };
    let other = site.path("other.pem");
    let key = openssl(
        &[
            "genpkey",
            "-algorithm",
            "RSA",
            "-pkeyopt",
            "rsa_keygen_bits:3072",
        ],
        b"",
    );
    fs::write(&other, openssl(&["pkey", "-pubout"], &key)).unwrap();
    let with_plan = |wrong, from: &str, to: &str| Case {
        wrong,
        plan: change(&good, from, to),
        files: Vec::new(),
    };
    let with_file = |wrong, name, contents: Vec<u8>| Case {
        wrong,
        plan: good.clone(),
        files: vec![(name, contents)],
    };
    let sha1 = ["rsa_padding_mode:oaep", "rsa_oaep_md:sha1"];
    let cases = vec![
        with_plan("the key's check value", FIRST_KCV, "A19084"),
        with_plan(
            "the kind announced: another length",
            "\"AES-128\"",
            "\"AES-256\"",
        ),
        with_plan(
            "the kind announced: another algorithm",
            "\"AES-128\"",
            "\"TDEA-2KEY\"",
        ),
        with_plan("the pair", "under = \"import-pair\"", "under = \"pair\""),
        with_plan(
            "the pair is a ZMK",
            "under = \"import-pair\"",
            "under = \"zmk.switch\"",
        ),
        with_plan("a hash that the module has not", "\"sha1\"", "\"sha256\""),
        with_plan(
            "the way of wrapping announced",
            "\"rfc3394\"",
            "\"rfc5649\"",
        ),
        with_file(
            "the way in which it was wrapped",
            file,
            key_wrap(&OVER, &kn, true),
        ),
        with_file("the wrapped key's first byte", file, flipped(&wrapped, 0)),
        with_file(
            "the wrapped key's last byte",
            file,
            flipped(&wrapped, wrapped.len() - 1),
        ),
        with_file(
            "the wrapped key is a byte short",
            file,
            wrapped[1..].to_vec(),
        ),
        with_file(
            "the wrapped key is a byte long",
            file,
            [&wrapped[..], &[0]].concat(),
        ),
        with_file("the wrapped key is empty", file, Vec::new()),
        with_file(
            "the wrapped key is another's",
            file,
            key_wrap(&[0x7F; 32], &kn, false),
        ),
        with_file("the file is no wrapped key", file, vec![b'A'; 300 * 1024]),
        with_file(
            "the transport key's hash",
            TRANSPORT,
            rsa_oaep(&public, "sha256", &OVER),
        ),
        with_file(
            "the transport key's hash in MGF1",
            TRANSPORT,
            by_openssl(&[&sha1[..], &["rsa_mgf1_md:sha256"]].concat()),
        ),
        with_file(
            "the transport key has a label",
            TRANSPORT,
            by_openssl(&[&sha1[..], &["rsa_mgf1_md:sha1", "rsa_oaep_label:6B6E"]].concat()),
        ),
        with_file(
            "the transport key is padded as in PKCS #1 v1.5",
            TRANSPORT,
            by_openssl(&["rsa_padding_mode:pkcs1"]),
        ),
        with_file(
            "the transport key is for another pair",
            TRANSPORT,
            rsa_oaep(&other, "sha1", &OVER),
        ),
        with_file(
            "the transport key's last byte",
            TRANSPORT,
            flipped(&transport, transport.len() - 1),
        ),
        with_file(
            "the transport key is a byte short",
            TRANSPORT,
            transport[1..].to_vec(),
        ),
        with_file(
            "the transport key has 5 bytes",
            TRANSPORT,
            rsa_oaep(&public, "sha1", &OVER[..5]),
        ),
        Case {
            wrong: "the transport key is weaker than the key",
            plan: change(&good, "\"AES-128\"", "\"AES-256\""),
            files: vec![
                (TRANSPORT, rsa_oaep(&public, "sha1", &OVER[..16])),
                (file, key_wrap(&OVER[..16], &OVER, false)),
            ],
        },
    ];
    let files = [(TRANSPORT, transport.clone()), (file, wrapped.clone())];
    assert_refused(chapter, site, (&good, &files), cases);
}

fn under_zmk(chapter: &mut Chapter, site: &Site) {
    let good = plan_of(1);
    let (zmk, kn) = (bytes(SUM), bytes(FIRST));
    let wrapped = key_wrap(&zmk, &kn, false);
    let file = "switch-two.bin";
    let with_plan = |wrong, from: &str, to: &str| Case {
        wrong,
        plan: change(&good, from, to),
        files: Vec::new(),
    };
    let with_file = |wrong, contents: Vec<u8>| Case {
        wrong,
        plan: good.clone(),
        files: vec![(file, contents)],
    };
    let under = "under = \"zmk.switch\"";
    let with_header = |header: &str| format!("header = \"{header}\"\n{under}");
    let cases = vec![
        with_plan("under a ZMK: the key's check value", FIRST_KCV, "A19084"),
        with_plan("under a ZMK: which one", under, "under = \"zmk.other\""),
        with_plan(
            "under a ZMK: a label that is none of a ZMK",
            under,
            "under = \"kn.switch-one\"",
        ),
        with_plan(
            "under a ZMK: the label of the key",
            "\"kn.switch-two\"",
            "\"zmk.switch-two\"",
        ),
        with_plan(
            "under a ZMK: the announced header's algorithm",
            under,
            &with_header("D0000K0TB00E0000"),
        ),
        with_plan(
            "under a ZMK: the announced header lets nobody have it",
            under,
            &with_header("D0000K0AB00N0000"),
        ),
        with_plan(
            "under a ZMK: the announced header",
            under,
            &with_header("D0000K0A"),
        ),
        with_file("under a ZMK: the wrapped key's tag", flipped(&wrapped, 7)),
        with_file(
            "under a ZMK: the wrapped key is cut",
            wrapped[..16].to_vec(),
        ),
        with_file(
            "under a ZMK: wrapped under another",
            key_wrap(&OVER, &kn, false),
        ),
        with_file("under a ZMK: no hexadecimal digits", b"no key".to_vec()),
    ];
    let files = [(file, wrapped.clone())];
    assert_refused(chapter, site, (&good, &files), cases);
}

#[test]
fn tokens_from_another_host() {
    hsm_modules::on(&[&KRYOPTIC], |_| {
        let site = other_host();
        let mut chapter = Chapter::new(7, "TR-34 tokens from another host");
        assert_success(&make_nonce(&site, "import-krd", "rt.der"));
        let nonce = |file: &str| {
            let der = fs::read(site.path(file)).unwrap();
            let token = RandomToken::parse(Profile::X9_2019, &der).unwrap();
            token.nonce().clone()
        };
        let der = key_token(&site, &nonce("rt.der"));
        let good = change(&plan(3), "\"CBDF95\"", &format!("\"{}\"", site.read("kcv")));
        let file = "switch-four.der";
        let with_plan = |wrong, from: &str, to: &str| Case {
            wrong,
            plan: change(&good, from, to),
            files: Vec::new(),
        };
        let with_file = |wrong, contents: Vec<u8>| Case {
            wrong,
            plan: good.clone(),
            files: vec![(file, contents)],
        };
        let cases = vec![
            with_plan("the key's check value", &site.read("kcv"), "000000"),
            with_plan("the kind announced", "\"AES-128\"", "\"AES-256\""),
            with_plan(
                "the header announced",
                "D0000K0AB00E0000",
                "D0000K0AB00S0000",
            ),
            with_plan("no header announced", "header = \"D0000K0AB00E0000\"\n", ""),
            with_plan(
                "the pair",
                "under = \"import-krd\"",
                "under = \"sender-pair\"",
            ),
            with_plan(
                "the pair is not there",
                "under = \"import-krd\"",
                "under = \"pair\"",
            ),
            with_plan("our certificate", "\"import-krd.pem\"", "\"switch.pem\""),
            with_plan(
                "the sender's certificate",
                "\"switch.pem\"",
                "\"import-krd.pem\"",
            ),
            with_plan("the sender's CA", "\"switch-ca.pem\"", "\"ca-krd.pem\""),
            with_plan("the dialect", "\"x9-2019\"", "\"clover\""),
            with_plan("a dialect that there is not", "\"x9-2019\"", "\"x9-2039\""),
            with_plan(
                "a time where it answers a nonce",
                "# signed-within-hours",
                "signed-within-hours",
            ),
            with_file("the signature", flipped(&der, der.len() - 1)),
            with_file("the end is missing", der[..1].to_vec()),
            with_file("a byte more", [&der[..], &[0]].concat()),
            with_file("it is no token", b"no token".to_vec()),
        ];
        let files = [(file, der.clone())];
        assert_refused(&mut chapter, &site, (&good, &files), cases);
        let again = change(&good, "kn.switch-four", "kn.again");
        chapter.case("it was imported already", said(&site, &run(&site, &again)));
        assert_success(&make_nonce(&site, "import-krd", "rt-2.der"));
        chapter.case("it answers another nonce", said(&site, &run(&site, &again)));
        let nonce = make_nonce(&site, "no-pair", "rt-3.der");
        chapter.case("a nonce for a pair that is not there", said(&site, &nonce));
        let nonce = make_nonce(&site, "import-krd", "rt-2.der");
        chapter.case("a nonce in a file that is there", said(&site, &nonce));
        chapter.assert_is_in_the_book();
    });
}
