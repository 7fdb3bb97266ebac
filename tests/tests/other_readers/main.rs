//! Bouncy Castle and Python's asn1crypto as the other readers: they read what the crate `tr34` writes, in
//! the profiles that they can read, and it reads what Bouncy Castle makes in the way of Clover's host.
//!
//! OpenSSL's command line verifies the signed tokens of every profile.
//!
//! | profile | Bouncy Castle | asn1crypto, which verifies nothing |
//! |---|---|---|
//! | `x9-2019`, `x9-2019-annex-d`, `clover` | verifies and opens everything | reads everything |
//! | `x9-2019-samples` | verifies no attributes out of DER's order: it sorts them first | reads no OAEP parameters without tags |
//! | `aws-2012` | verifies key tokens and opens none | reads key tokens as far as the `EnvelopedData` |
//!
//! To neither is a structure without tag and length one: the `EnvelopedData` of `aws-2012`, and the inner
//! `SignedData` of the rebind tokens of both last profiles.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod site;
mod tokens;

use std::fs;

use der::{Tag, TagNumber, asn1::ObjectIdentifier};
use system_tests::readers::asn1crypto;
use tr34::{
    CaRebindToken, CaUnbindToken, Freshness, KdhCredentialToken, KdhRebindToken, KdhUnbindToken,
    KeyBlock, KeyToken, KrdCredentialToken, OaepHash, Profile, RandomToken, Rule, TokenKind,
};

use site::{Holder, Site, text};
use tokens::{
    AES, LONG_AES, Parcel, TDEA, TDEA_UNDER_AES, Token, nonce_of, signing_time, two_pass,
};

/// Those that are sound CMS.
const READ_BY_BOTH: [Profile; 3] = [Profile::X9_2019, Profile::X9_2019AnnexD, Profile::Clover];

/// RFC 6211.
const ALGORITHM_PROTECTION: ObjectIdentifier =
    ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.52");

const CONTEXT_0: Tag = context(0);
const CONTEXT_1: Tag = context(1);

const SHA_1: &str = "1.3.14.3.2.26";
const SHA_256: &str = "2.16.840.1.101.3.4.2.1";

#[test]
fn both_read_key_tokens() {
    let site = Site::new();
    let one_pass = Freshness::SigningTime(site.now);
    let cases: [(Profile, Parcel, Freshness); 7] = [
        (Profile::X9_2019, AES, two_pass(Profile::X9_2019)),
        (Profile::X9_2019, LONG_AES, one_pass.clone()),
        (Profile::X9_2019, TDEA, two_pass(Profile::X9_2019)),
        (Profile::X9_2019AnnexD, AES, one_pass),
        (
            Profile::X9_2019AnnexD,
            LONG_AES,
            two_pass(Profile::X9_2019AnnexD),
        ),
        (Profile::Clover, AES, two_pass(Profile::Clover)),
        (Profile::Clover, TDEA_UNDER_AES, two_pass(Profile::Clover)),
    ];
    for (profile, parcel, freshness) in cases {
        let token = site.key_token(profile, parcel, &freshness);

        let opened = site.bouncy_castle("verify-and-open", &token).unwrap();
        token.assert_read(&opened);
        assert_eq!(opened["kn"], hex::encode(parcel.kn), "{profile}");
        let version = if profile == Profile::X9_2019AnnexD {
            "0"
        } else {
            "1"
        };
        assert_eq!(opened["key-block-version"], version, "{profile}");

        let read = site.asn1crypto(&token);
        token.assert_read(&read);
        assert_eq!(read["digest"], "right", "{profile}");

        for report in [opened, read] {
            for (key, with_null) in [
                ("oaep-hash", true),
                ("oaep-mgf-hash", profile == Profile::Clover),
            ] {
                let hash = match (parcel.oaep, with_null) {
                    // As defaults they are not written.
                    (OaepHash::Sha1, _) => format!("{SHA_1}+NULL"),
                    (OaepHash::Sha256, true) => format!("{SHA_256}+NULL"),
                    (OaepHash::Sha256, false) => SHA_256.to_owned(),
                };
                assert_eq!(report[key], hash, "{profile}: {key}");
            }
        }
    }
}

#[test]
fn both_read_unbind_and_rebind_tokens() {
    let site = Site::new();
    for profile in READ_BY_BOTH {
        for token in site.orders(profile) {
            token.assert_read(&site.bouncy_castle("verify", &token).unwrap());
            token.assert_read(&site.asn1crypto(&token));
        }
    }
}

#[test]
fn both_read_credential_tokens() {
    let site = Site::new();
    let certificate = |holder: &Holder| hex::encode(holder.certificate.der());
    for profile in READ_BY_BOTH {
        let krd = KrdCredentialToken::new(site.krd.certificate.der()).unwrap();
        let kdh = KdhCredentialToken::new(site.kdh.certificate.der(), &site.crl).unwrap();
        let krd = site.write("ct-krd.der", &krd.to_der(profile));
        let kdh = site.write("ct-kdh.der", &kdh.to_der(profile));
        for (file, kind, holder) in [(krd, "CT_KRD", &site.krd), (kdh, "CT_KDH", &site.kdh)] {
            let path = text(&file);
            let reports = [
                site.java.read("credentials", &["--token", &path]).unwrap(),
                asn1crypto(&file, &site.log()).unwrap(),
            ];
            for report in reports {
                assert_eq!(report["kind"], kind, "{profile}");
                assert_eq!(report["der"], "yes", "{profile}: {kind}");
                assert_eq!(report["certificate"], certificate(holder), "{profile}");
                let crl = (kind == "CT_KDH").then(|| hex::encode(&site.crl));
                assert_eq!(report.get("crl"), crl.as_ref(), "{profile}");
            }
        }
    }
}

/// OpenSSL's command line: it verifies every signed token of every profile, since it takes the bytes that
/// were signed as they came. What is inside it opens where that is sound CMS. On untagged OAEP parameters it
/// falls back to PKCS#1 v1.5 without a word, so it is not asked to open such tokens.
#[test]
fn openssl_verifies_every_profile_and_opens_what_is_sound() {
    let site = Site::new();
    for profile in Profile::ALL {
        let freshness = [two_pass(profile), Freshness::SigningTime(site.now)];
        let key_tokens = freshness.map(|freshness| site.key_token(profile, AES, &freshness));
        for token in &key_tokens {
            site.openssl_verifies(token);
            let enveloped = site.file("content");
            if READ_BY_BOTH.contains(&profile) {
                let opened = site.openssl_opens(&enveloped);
                assert!(opened.windows(AES.kn.len()).any(|window| window == AES.kn));
            }
        }
        for token in site.orders(profile) {
            site.openssl_verifies(&token);
        }
    }
}

/// A random number token is no CMS: Bouncy Castle would have nothing to read it with but its ASN.1.
#[test]
fn asn1crypto_reads_random_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let (file, log) = (folder.path().join("rt-krd.der"), folder.path().join("log"));
    for profile in Profile::ALL {
        let nonce = nonce_of(profile);
        fs::write(&file, RandomToken::new(nonce.clone()).to_der()).unwrap();
        let read = asn1crypto(&file, &log).unwrap();
        assert_eq!(read["kind"], "RT_KRD");
        assert_eq!(read["der"], "yes");
        assert_eq!(read["nonce"], hex::encode(nonce.as_bytes()));
    }
}

/// What it accepts above it does not accept with one bit changed, or from another.
#[test]
fn bouncy_castle_refuses_what_was_changed() {
    let site = Site::new();
    let profile = Profile::X9_2019;
    let mut token = site.key_token(profile, AES, &two_pass(profile));
    let mut der = fs::read(&token.file).unwrap();
    *der.last_mut().unwrap() ^= 1;
    fs::write(&token.file, der).unwrap();
    let refused = |token: &Token| {
        let refused = site.bouncy_castle("verify", token).unwrap_err();
        refused.to_string()
    };
    assert!(refused(&token).contains("the signature is not the signer's"));
    token.signer = "new-kdh";
    assert!(refused(&token).contains("another certificate signed"));
}

/// The printed order of attributes is DER's for the nonces of eight bytes that `aws-2012` has, and not for
/// those of sixteen.
#[test]
fn what_neither_reads_to_the_end_is_named() {
    let site = Site::new();
    let refusal = |job, token: &Token| site.bouncy_castle(job, token).unwrap_err().to_string();
    for profile in [Profile::X9_2019Samples, Profile::Aws2012] {
        let aws = profile == Profile::Aws2012;
        let mut token = site.key_token(profile, AES, &two_pass(profile));

        if aws {
            let verified = site.bouncy_castle("verify", &token).unwrap();
            assert_eq!(verified["kind"], "KT_KDH");
            assert_eq!(verified["der"], "yes");
            let refused = refusal("verify-and-open", &token);
            assert!(refused.contains("Extra data detected"), "{refused}");
        } else {
            let refused = refusal("verify", &token);
            assert!(refused.contains("not the signer's"), "{refused}");
        }

        let mut read = site.asn1crypto(&token);
        assert_eq!(read["digest"], "right");
        let unreadable = if aws {
            token
                .said
                .retain(|key, _| !["recipient", "cipher"].contains(&key.as_str()));
            "Extra data"
        } else {
            // The order of the attributes.
            assert_eq!(read.insert("der".into(), "yes".into()).unwrap(), "no");
            "an element too many in EnvelopedData"
        };
        assert!(read["unreadable"].starts_with(unreadable), "{read:?}");
        token.assert_read(&read);

        for mut token in site.orders(profile) {
            let rebind = token.said["kind"].starts_with("RBT");
            let mut read = site.asn1crypto(&token);
            if rebind {
                let refused = refusal("verify", &token);
                assert!(refused.contains("Extra data detected"), "{refused}");
                let unreadable = read.remove("unreadable").unwrap();
                assert!(unreadable.starts_with("Extra data"), "{unreadable}");
                let inside = ["kind", "krd", "kdh", "new-kdh-certificate"];
                token.said.retain(|key, _| !inside.contains(&key.as_str()));
            } else {
                token.assert_read(&site.bouncy_castle("verify", &token).unwrap());
            }
            assert_eq!(read.get("unreadable"), None);
            token.assert_read(&read);
        }
    }
}

/// As Clover's host makes them, with Bouncy Castle.
#[test]
fn what_bouncy_castle_makes_is_read_and_opened() {
    let site = Site::new();
    let profile = Profile::Clover;
    for parcel in [AES, TDEA_UNDER_AES] {
        let clover = site.make_clover(parcel);
        let token = KeyToken::parse(profile, &clover("kt-kdh")).unwrap();
        assert!(site.kdh.signed(token.signed_by()));
        assert_eq!(token.freshness(), &two_pass(profile));
        assert!(token.signing_time().is_some());
        assert_eq!(token.header().as_bytes(), parcel.header.as_bytes());
        assert_eq!(token.crl(), None);
        assert_eq!(token.enveloped().recipient(), &site.krd.identity());
        let block = site.open(token.enveloped());
        let block = KeyBlock::parse(profile, &block).unwrap();
        assert_eq!(block.kdh(), &site.kdh.identity());
        assert_eq!(block.header(), token.header());
        assert_eq!(block.expose_clear(), parcel.kn);
    }

    let clover = site.make_clover(AES);
    let (krd, kdh) = (site.krd.identity(), site.kdh.identity());
    let new_kdh = site.new_kdh.certificate.der();
    let nonce = nonce_of(profile);

    let token = KdhUnbindToken::parse(profile, &clover("ubt-kdh")).unwrap();
    assert!(site.kdh.signed(token.signed_by()));
    assert_eq!((token.krd(), token.nonce()), (&krd, &nonce));
    let token = KdhRebindToken::parse(profile, &clover("rbt-kdh")).unwrap();
    assert!(site.kdh.signed(token.signed_by()));
    assert_eq!((token.krd(), token.nonce()), (&krd, &nonce));
    assert_eq!(token.new_kdh_certificate(), new_kdh);
    let token = CaUnbindToken::parse(profile, &clover("ubt-ca")).unwrap();
    assert!(site.ca_krd.signed(token.signed_by()));
    assert_eq!((token.krd(), token.kdh()), (&krd, &kdh));
    let token = CaRebindToken::parse(profile, &clover("rbt-ca")).unwrap();
    assert!(site.ca_krd.signed(token.signed_by()));
    assert_eq!((token.krd(), token.kdh()), (&krd, &kdh));
    assert_eq!(token.new_kdh_certificate(), new_kdh);

    let token = KrdCredentialToken::parse(profile, &clover("ct-krd")).unwrap();
    assert_eq!(token.certificate(), site.krd.certificate.der());
    let token = KdhCredentialToken::parse(profile, &clover("ct-kdh")).unwrap();
    assert_eq!(token.certificate(), site.kdh.certificate.der());
    assert_eq!(token.crl(), site.crl);
}

#[test]
fn what_bouncy_castle_makes_is_written_alike() {
    let site = Site::new();
    let profile = Profile::Clover;
    let clover = site.make_clover(AES);
    let (krd, kdh, ca) = (
        site.krd.identity(),
        site.kdh.identity(),
        site.ca_krd.identity(),
    );
    let new_kdh = site.new_kdh.certificate.der();
    let nonce = nonce_of(profile);
    // When Bouncy Castle signed.
    let time =
        |name| signing_time(&asn1crypto(&site.file(&format!("{name}.der")), &site.log()).unwrap());

    let token = KeyToken::parse(profile, &clover("kt-kdh")).unwrap();
    let drafts = [
        (
            "kt-kdh",
            &site.kdh,
            KeyToken::draft(
                profile,
                token.enveloped(),
                token.header(),
                token.freshness(),
                token.signing_time().unwrap(),
                &kdh,
                &site.crl,
            ),
        ),
        (
            "ubt-kdh",
            &site.kdh,
            KdhUnbindToken::draft(profile, &krd, &nonce, time("ubt-kdh"), &kdh, &site.crl),
        ),
        (
            "rbt-kdh",
            &site.kdh,
            KdhRebindToken::draft(
                profile,
                &krd,
                new_kdh,
                &nonce,
                time("rbt-kdh"),
                &kdh,
                &site.crl,
            ),
        ),
        (
            "ubt-ca",
            &site.ca_krd,
            CaUnbindToken::draft(profile, &krd, &kdh, time("ubt-ca"), &ca),
        ),
        (
            "rbt-ca",
            &site.ca_krd,
            CaRebindToken::draft(profile, &krd, &kdh, new_kdh, time("rbt-ca"), &ca),
        ),
    ];
    for (name, signer, draft) in drafts {
        // RSA PKCS#1 v1.5 gives the same signature each time.
        assert_eq!(site.sign(draft.unwrap(), signer), clover(name), "{name}");
    }
    let token = KrdCredentialToken::new(site.krd.certificate.der()).unwrap();
    assert_eq!(token.to_der(profile), clover("ct-krd"));
    let token = KdhCredentialToken::new(site.kdh.certificate.der(), &site.crl).unwrap();
    assert_eq!(token.to_der(profile), clover("ct-kdh"));
}

#[test]
fn what_bouncy_castle_makes_is_refused_under_another_profile() {
    let site = Site::new();
    let profile = Profile::X9_2019;
    let clover = site.make_clover(AES);
    // Clover has no CRL in what a KDH signs, signs attributes and one more of them in what a CA does, and has
    // no empty content in a credential.
    let no_crl = Rule::Tag {
        field: "crls",
        expected: CONTEXT_1,
        found: Tag::Set,
    };
    let attributes = Rule::Tag {
        field: "signatureAlgorithm",
        expected: Tag::Sequence,
        found: CONTEXT_0,
    };
    let protection = Rule::UnknownAttribute {
        found: ALGORITHM_PROTECTION,
    };
    let no_content = Rule::Missing { field: "eContent" };
    let refused = [
        KeyToken::parse(profile, &clover("kt-kdh")).unwrap_err(),
        KdhUnbindToken::parse(profile, &clover("ubt-kdh")).unwrap_err(),
        KdhRebindToken::parse(profile, &clover("rbt-kdh")).unwrap_err(),
        CaUnbindToken::parse(profile, &clover("ubt-ca")).unwrap_err(),
        CaRebindToken::parse(profile, &clover("rbt-ca")).unwrap_err(),
        KrdCredentialToken::parse(profile, &clover("ct-krd")).unwrap_err(),
        KdhCredentialToken::parse(profile, &clover("ct-kdh")).unwrap_err(),
    ];
    let rules = [
        (TokenKind::KeyToken, no_crl.clone()),
        (TokenKind::KdhUnbind, no_crl.clone()),
        (TokenKind::KdhRebind, no_crl),
        (TokenKind::CaUnbind, attributes),
        (TokenKind::CaRebind, protection),
        (TokenKind::KrdCredential, no_content.clone()),
        (TokenKind::KdhCredential, no_content),
    ];
    assert_eq!(refused.map(|refused| (refused.token, refused.rule)), rules);
}

const fn context(number: u32) -> Tag {
    Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(number),
    }
}
