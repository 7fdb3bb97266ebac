//! One token of each kind, in every profile. Their signatures are no signatures: nothing here verifies.

use time::{OffsetDateTime, macros::datetime};
use tr34::{
    CaRebindToken, CaUnbindToken, ContentEncryption, EnvelopedKeyBlock, Freshness, IssuerAndSerial,
    Kbh, KdhCredentialToken, KdhRebindToken, KdhUnbindToken, KeyBlockFrame, KeyToken,
    KrdCredentialToken, KrdNonce, OaepHash, Profile, RandomToken, SigningTime, TokenDraft,
};

/// While the certificate and the list hold.
pub(crate) const NOW: OffsetDateTime = datetime!(2026-06-01 12:00 UTC);
pub(crate) const KN: [u8; 16] = *b"do not print me!";
pub(crate) const CERTIFICATE: &[u8] = include_bytes!("../../../tr34/tests/data/kdh.cert.der");
pub(crate) const CRL: &[u8] = include_bytes!("../../../tr34/tests/data/ca-kdh.crl.der");

const HEADER: &str = "D0000K0AB00E0000";

/// A KDH that is not that of the certificate.
fn kdh() -> IssuerAndSerial {
    let id = IssuerAndSerial::of_certificate(CERTIFICATE).unwrap();
    IssuerAndSerial::new(id.issuer_der(), &[0x4B; 9]).unwrap()
}

fn krd() -> IssuerAndSerial {
    let id = IssuerAndSerial::of_certificate(CERTIFICATE).unwrap();
    IssuerAndSerial::new(id.issuer_der(), &[0x3B; 9]).unwrap()
}

fn header() -> Kbh {
    HEADER.parse().unwrap()
}

fn nonce(profile: Profile) -> KrdNonce {
    KrdNonce::new(&b"sixteen bytes ok"[..profile.nonce_len()]).unwrap()
}

fn now() -> SigningTime {
    SigningTime::from_unix_seconds(u64::try_from(NOW.unix_timestamp()).unwrap()).unwrap()
}

pub(crate) fn enveloped() -> EnvelopedKeyBlock {
    let encryption = ContentEncryption::Aes128Cbc([0x1F; 16]);
    EnvelopedKeyBlock::new(
        krd(),
        OaepHash::Sha256,
        vec![0xE1; 256],
        encryption,
        vec![0xC1; 144],
    )
    .unwrap()
}

fn signed(draft: TokenDraft) -> Vec<u8> {
    draft.into_token(&[0x51; 256]).unwrap()
}

/// Each kind by its word, in a profile.
pub(crate) fn all(profile: Profile) -> Vec<(&'static str, Vec<u8>)> {
    let key_token = |freshness: &Freshness| {
        let draft = KeyToken::draft(
            profile,
            &enveloped(),
            &header(),
            freshness,
            now(),
            &kdh(),
            CRL,
        );
        signed(draft.unwrap())
    };
    let nonce = nonce(profile);
    let frame = KeyBlockFrame::new(profile, &kdh(), &header(), KN.len());
    let ubt_kdh = KdhUnbindToken::draft(profile, &krd(), &nonce, now(), &kdh(), CRL);
    let rbt_kdh = KdhRebindToken::draft(profile, &krd(), CERTIFICATE, &nonce, now(), &kdh(), CRL);
    let ubt_ca = CaUnbindToken::draft(profile, &krd(), &kdh(), now(), &kdh());
    let rbt_ca = CaRebindToken::draft(profile, &krd(), &kdh(), CERTIFICATE, now(), &kdh());
    vec![
        ("rt-krd", RandomToken::new(nonce.clone()).to_der()),
        (
            "ct-krd",
            KrdCredentialToken::new(CERTIFICATE)
                .unwrap()
                .to_der(profile),
        ),
        (
            "ct-kdh",
            KdhCredentialToken::new(CERTIFICATE, CRL)
                .unwrap()
                .to_der(profile),
        ),
        ("kt-kdh-two-pass", key_token(&Freshness::Nonce(nonce))),
        ("kt-kdh-one-pass", key_token(&Freshness::SigningTime(now()))),
        ("ubt-kdh", signed(ubt_kdh.unwrap())),
        ("rbt-kdh", signed(rbt_kdh.unwrap())),
        ("ubt-ca", signed(ubt_ca.unwrap())),
        ("rbt-ca", signed(rbt_ca.unwrap())),
        ("enveloped-data", enveloped().to_der(profile).unwrap()),
        ("key-block", [frame.prefix(), &KN, frame.suffix()].concat()),
    ]
}

/// The two-pass key token of the default profile.
pub(crate) fn key_token() -> Vec<u8> {
    let (_, token) = all(Profile::X9_2019).swap_remove(3);
    token
}
