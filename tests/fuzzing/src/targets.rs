//! The parsers, each with the bytes that it is started from and what must hold.

use good_tokens::Kind;
use inspector::{Input, inspect, recognise};
use kdh_proto::v1::{BindingStatement, ReceiptStatement};
use pki::{Certificate, Crl, CsrKey, Name, PublicKey, verify_csr};
use prost::Message as _;
use time::OffsetDateTime;
use tr31::{KeyBlock, Protected};
use tr34::{IssuerAndSerial, Kbh, KrdCredentialToken, MAX_TOKEN_LEN, Profile};

use crate::seeds_of;

/// A parser under test.
#[derive(Clone, Copy)]
pub struct Target {
    /// Of the target in `fuzz/`, and of its corpus.
    pub name: &'static str,
    /// Gives it bytes, and panics if it does not do as it must. Says whether it took them.
    pub run: fn(&[u8]) -> bool,
    /// Bytes that it takes, most of them made on the spot.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// One target for each kind of token, which is read in all profiles.
macro_rules! token {
    ($kind:ident, $name:literal) => {
        Target {
            name: $name,
            run: |der| token(Kind::$kind, der),
            seeds: || seeds_of::tokens(Kind::$kind),
        }
    };
}

const TARGETS: &[Target] = &[
    token!(RandomToken, "rt_krd"),
    token!(KrdCredential, "ct_krd"),
    token!(KdhCredential, "ct_kdh"),
    token!(TwoPassKey, "kt_kdh"),
    token!(KdhUnbind, "ubt_kdh"),
    token!(KdhRebind, "rbt_kdh"),
    token!(CaUnbind, "ubt_ca"),
    token!(CaRebind, "rbt_ca"),
    token!(Enveloped, "enveloped_data"),
    token!(KeyBlock, "key_block"),
    Target {
        name: "identity",
        run: identity,
        seeds: || seeds_of::tokens(Kind::Identity),
    },
    Target {
        name: "key_block_header",
        run: header,
        seeds: seeds_of::headers,
    },
    Target {
        name: "tr31_key_block",
        run: tr31_key_block,
        seeds: seeds_of::tr31_key_blocks,
    },
    Target {
        name: "certificate",
        run: certificate,
        seeds: seeds_of::certificates,
    },
    Target {
        name: "crl",
        run: crl,
        seeds: seeds_of::crls,
    },
    Target {
        name: "certificate_request",
        run: certificate_request,
        seeds: seeds_of::certificate_requests,
    },
    Target {
        name: "name",
        run: name,
        seeds: seeds_of::names,
    },
    Target {
        name: "public_key",
        run: public_key,
        seeds: seeds_of::public_keys,
    },
    Target {
        name: "receipt",
        run: receipt,
        seeds: seeds_of::receipts,
    },
    Target {
        name: "inspector",
        run: inspector,
        seeds: seeds_of::inspected,
    },
];

/// All of them.
pub const fn targets() -> &'static [Target] {
    TARGETS
}

/// The one of this name.
pub fn target(name: &str) -> Target {
    let found = TARGETS.iter().find(|target| target.name == name);
    *found.unwrap_or_else(|| panic!("no target is called {name}"))
}

/// Whether a profile reads more ways of writing the enveloped data than the one that it writes: forms of
/// OAEP's parameters, places of the ciphertext.
fn reads_several_ways(kind: Kind, profile: Profile) -> bool {
    let has_envelope = matches!(kind, Kind::TwoPassKey | Kind::OnePassKey | Kind::Enveloped);
    has_envelope && !matches!(profile, Profile::Aws2012 | Profile::Clover)
}

fn token(kind: Kind, der: &[u8]) -> bool {
    let read = |profile| kind.read_and_write(profile, der);
    for profile in Profile::ALL {
        match read(profile) {
            // What is not refused is what it was read as: its values make the same bytes.
            Ok(again) if again == der => assert!(der.len() <= MAX_TOKEN_LEN),
            Ok(again) => {
                assert!(reads_several_ways(kind, profile), "{kind} of {profile}");
                let once_more = kind.read_and_write(profile, &again);
                assert_eq!(once_more.as_ref(), Ok(&again), "{kind} of {profile}");
            }
            // A refusal says where. One that does not is not by the reader: values would have been read that
            // cannot be written.
            Err(error) => assert!(error.offset.unwrap() <= der.len(), "{kind} of {profile}"),
        }
    }
    if kind != Kind::KeyBlock {
        // These two differ in nothing else.
        assert_eq!(
            read(Profile::X9_2019),
            read(Profile::X9_2019AnnexD),
            "{kind}"
        );
    }
    Profile::ALL
        .into_iter()
        .any(|profile| read(profile).is_ok())
}

fn identity(der: &[u8]) -> bool {
    let Ok(identity) = IssuerAndSerial::parse(der) else {
        return token(Kind::Identity, der);
    };
    // The certificates take every name that is taken here, and numbers are as RFC 5280 has them.
    assert!(Name::from_der(identity.issuer_der()).is_ok());
    let serial = identity.serial_bytes();
    assert!((1..=20).contains(&serial.len()) && serial[0] < 0x80 && serial != [0]);
    token(Kind::Identity, der)
}

fn tr31_key_block(bytes: &[u8]) -> bool {
    let Ok(block) = KeyBlock::parse(bytes) else {
        return false;
    };
    assert_eq!(block.to_string().as_bytes(), bytes);
    let protected = Protected {
        payload: block.payload(),
        mac: block.mac(),
    };
    let again = KeyBlock::new(block.header(), block.optional_blocks(), protected);
    assert_eq!(again.as_ref(), Ok(&block));
    true
}

fn header(bytes: &[u8]) -> bool {
    let Ok(header) = Kbh::parse(bytes) else {
        return false;
    };
    assert_eq!(header.as_bytes(), bytes);
    assert_eq!(header.to_string().parse(), Ok(header.clone()));
    for key_len in 0..=64 {
        if let Ok(kind) = header.key_kind(key_len) {
            assert_eq!(kind.key_len(), key_len);
        }
    }
    true
}

fn certificate(der: &[u8]) -> bool {
    let identity = IssuerAndSerial::of_certificate(der);
    let token = KrdCredentialToken::new(der);
    let Ok(certificate) = Certificate::from_der(der) else {
        return false;
    };
    assert_eq!(certificate.der(), der);
    let from_pem = Certificate::from_pem(&certificate.to_pem());
    // The messages take every certificate that is taken here, and name it alike.
    assert_eq!(certificate.issuer_and_serial(), identity);
    assert_eq!(token.unwrap().certificate(), der);
    assert_eq!(from_pem, Ok(certificate));
    true
}

fn crl(der: &[u8]) -> bool {
    let Ok(crl) = Crl::from_der(der) else {
        return false;
    };
    assert_eq!(crl.der(), der);
    assert!(crl.revoked().is_sorted());
    for serial in crl.revoked() {
        assert!(crl.lists(serial));
    }
    true
}

fn certificate_request(der: &[u8]) -> bool {
    let encryption = CsrKey::Encryption { min_rsa_bits: 2048 };
    let verified = [encryption, CsrKey::Authentication].map(|kind| verify_csr(der, kind));
    let mut taken = false;
    for request in verified.into_iter().flatten() {
        let key = request.into_public_key();
        assert_eq!(PublicKey::from_spki_der(key.as_spki_der()), Ok(key));
        taken = true;
    }
    taken
}

fn name(der: &[u8]) -> bool {
    let Ok(name) = Name::from_der(der) else {
        return false;
    };
    assert_eq!(name.der(), der);
    // Nothing is said of what it looks like.
    let _ = (name.to_string(), name.common_name(), name.unit());
    true
}

fn public_key(der: &[u8]) -> bool {
    let Ok(key) = PublicKey::from_spki_der(der) else {
        return false;
    };
    assert_eq!(key.as_spki_der(), der);
    if let Some((modulus, exponent)) = key.rsa_components() {
        assert_eq!(PublicKey::from_rsa(&modulus, &exponent), Ok(key));
    }
    true
}

/// What a terminal signs.
fn receipt(bytes: &[u8]) -> bool {
    let receipt = ReceiptStatement::decode(bytes);
    if let Ok(receipt) = &receipt {
        let again = ReceiptStatement::decode(&receipt.encode_to_vec()[..]);
        assert_eq!(again.as_ref(), Ok(receipt));
    }
    let binding = BindingStatement::decode(bytes);
    if let Ok(binding) = &binding {
        let again = BindingStatement::decode(&binding.encode_to_vec()[..]);
        assert_eq!(again.as_ref(), Ok(binding));
    }
    receipt.is_ok() || binding.is_ok()
}

/// The inspector looks at whatever people have in their files.
fn inspector(bytes: &[u8]) -> bool {
    let Ok(input) = Input::read(bytes) else {
        return false;
    };
    if let Ok((_, profiles)) = recognise(&input.der) {
        for profile in profiles {
            let mut kinds = Kind::ALL.into_iter();
            assert!(kinds.any(|kind| kind.read_and_write(profile, &input.der).is_ok()));
        }
        assert!(inspect(&input.der, OffsetDateTime::UNIX_EPOCH).is_ok());
    }
    true
}
