//! The tokens, with what a reader must find in them: those that the crate `tr34` writes, and those that
//! Bouncy Castle makes as Clover's host does.

use std::{fs, path::PathBuf, slice::from_ref};

use system_tests::readers::{Report, asn1crypto};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tr34::{
    CaRebindToken, CaUnbindToken, ContentCipher, Freshness, IssuerAndSerial, KdhRebindToken,
    KdhUnbindToken, KeyToken, KrdNonce, MalformedToken, OaepHash, Profile, SigningTime, TokenDraft,
};

use super::site::{Holder, Site, text};

const NONCE: [u8; 16] = *b"sixteen byte non";

const SHA_256: &str = "2.16.840.1.101.3.4.2.1";
const RSA: &str = "1.2.840.113549.1.1.1";
const SHA_256_WITH_RSA: &str = "1.2.840.113549.1.1.11";

/// What both readers say of a signed token under the same name, and so can be compared.
const COMPARED: [&str; 15] = [
    "kind",
    "version",
    "signer",
    "digest-algorithm",
    "signature-algorithm",
    "certificates",
    "crls",
    "nonce",
    "signing-time",
    "header",
    "recipient",
    "cipher",
    "krd",
    "kdh",
    "new-kdh-certificate",
];

/// A signed token in a file, and what it says.
pub(crate) struct Token {
    pub(crate) file: PathBuf,
    pub(crate) signer: &'static str,
    pub(crate) said: Report,
}

impl Token {
    pub(crate) fn assert_read(&self, report: &Report) {
        let compared = |key: &&String| COMPARED.contains(&key.as_str());
        let read: Report = report
            .iter()
            .filter(|(key, _)| compared(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        assert_eq!(read, self.said);
        assert_eq!(report["der"], "yes", "{}", self.file.display());
    }
}

/// A key that travels, and how.
#[derive(Clone, Copy)]
pub(crate) struct Parcel {
    pub(crate) header: &'static str,
    pub(crate) kn: &'static [u8],
    pub(crate) cipher: ContentCipher,
    pub(crate) oaep: OaepHash,
}

pub(crate) const AES: Parcel = Parcel {
    header: "D0000K1AD00N0000",
    kn: b"sixteen byte key",
    cipher: ContentCipher::Aes128Cbc,
    oaep: OaepHash::Sha256,
};

pub(crate) const LONG_AES: Parcel = Parcel {
    header: "D0256B0AX00E0000",
    kn: b"a key that has thirty-two bytes.",
    cipher: ContentCipher::Aes256Cbc,
    oaep: OaepHash::Sha256,
};

pub(crate) const TDEA: Parcel = Parcel {
    header: "B0000K1TD00N0000",
    kn: b"twenty-four bytes of key",
    cipher: ContentCipher::DesEde3Cbc,
    oaep: OaepHash::Sha1,
};

/// As Clover sends them.
pub(crate) const TDEA_UNDER_AES: Parcel = Parcel {
    cipher: ContentCipher::Aes128Cbc,
    oaep: OaepHash::Sha256,
    ..TDEA
};

impl Site {
    /// `KT_KDH`.
    pub(crate) fn key_token(
        &self,
        profile: Profile,
        parcel: Parcel,
        freshness: &Freshness,
    ) -> Token {
        let draft = KeyToken::draft(
            profile,
            &self.seal(profile, parcel),
            &parcel.header.parse().unwrap(),
            freshness,
            self.now,
            &self.kdh.identity(),
            &self.crl,
        );
        let fresh = match freshness {
            Freshness::Nonce(nonce) => ("nonce", hex::encode(nonce.as_bytes())),
            Freshness::SigningTime(time) => ("signing-time", rfc3339(*time)),
        };
        let inside = [
            fresh,
            ("header", parcel.header.to_owned()),
            ("recipient", name(&self.krd.identity())),
            ("cipher", object_identifier(parcel.cipher).to_owned()),
        ];
        let said = self.said(profile, "KT_KDH", &self.kdh, &inside);
        self.token(draft, &self.kdh, said)
    }

    /// The four orders that a terminal takes.
    pub(crate) fn orders(&self, profile: Profile) -> [Token; 4] {
        let (krd, kdh, ca) = (
            self.krd.identity(),
            self.kdh.identity(),
            self.ca_krd.identity(),
        );
        let (new, crl, now) = (self.new_kdh.certificate.der(), &self.crl, self.now);
        let nonce = nonce_of(profile);

        let said = |kind, signer, inside: &[(&str, String)]| {
            let terminal = ("krd", name(&krd));
            self.said(profile, kind, signer, &[&[terminal], inside].concat())
        };
        let fresh = ("nonce", hex::encode(nonce.as_bytes()));
        let bound = ("kdh", name(&kdh));
        let next = ("new-kdh-certificate", hex::encode(new));
        let time = ("signing-time", rfc3339(now));
        [
            self.token(
                KdhUnbindToken::draft(profile, &krd, &nonce, now, &kdh, crl),
                &self.kdh,
                said("UBT_KDH", &self.kdh, from_ref(&fresh)),
            ),
            self.token(
                KdhRebindToken::draft(profile, &krd, new, &nonce, now, &kdh, crl),
                &self.kdh,
                said("RBT_KDH", &self.kdh, &[fresh, next.clone()]),
            ),
            self.token(
                CaUnbindToken::draft(profile, &krd, &kdh, now, &ca),
                &self.ca_krd,
                said("UBT_CA", &self.ca_krd, from_ref(&bound)),
            ),
            self.token(
                CaRebindToken::draft(profile, &krd, &kdh, new, now, &ca),
                &self.ca_krd,
                said("RBT_CA", &self.ca_krd, &[bound, next, time]),
            ),
        ]
    }

    /// What a token says: its outside, which the profile and the kind decide, and what is `inside`.
    fn said(
        &self,
        profile: Profile,
        kind: &str,
        signer: &Holder,
        inside: &[(&str, String)],
    ) -> Report {
        let clover = profile == Profile::Clover;
        let as_printed = [Profile::X9_2019Samples, Profile::Aws2012].contains(&profile);
        let of_data = kind.starts_with("UBT");
        let version = if as_printed || of_data { 1 } else { 3 };
        let signature = if clover { SHA_256_WITH_RSA } else { RSA };
        let crls = usize::from(profile.carries_crl() && signer.name == self.kdh.name);
        let time = ("signing-time", rfc3339(self.now));
        let outside = [
            ("kind", kind.to_owned()),
            ("version", version.to_string()),
            ("signer", name(&signer.identity())),
            ("digest-algorithm", SHA_256.to_owned()),
            ("signature-algorithm", format!("{signature}+NULL")),
            ("certificates", 0.to_string()),
            ("crls", crls.to_string()),
        ];
        let said = outside.iter().chain(inside).chain(clover.then_some(&time));
        said.map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect()
    }

    fn token(
        &self,
        draft: Result<TokenDraft, MalformedToken>,
        signer: &Holder,
        said: Report,
    ) -> Token {
        let der = self.sign(draft.unwrap(), signer);
        Token {
            file: self.write(&format!("{}.der", said["kind"]), &der),
            signer: signer.name,
            said,
        }
    }

    /// Has Bouncy Castle make all tokens as Clover's host does, each in a file; returns what reads one.
    pub(crate) fn make_clover(&self, parcel: Parcel) -> impl Fn(&str) -> Vec<u8> {
        let holders = ["krd", "kdh", "new-kdh", "ca-krd"].map(|holder| {
            let (certificate, key) = (format!("{holder}.pem"), format!("{holder}.key"));
            [
                (format!("--{holder}-cert"), self.text(&certificate)),
                (format!("--{holder}-key"), self.text(&key)),
            ]
        });
        let others = [
            ("--out".to_owned(), self.text("")),
            ("--crl".to_owned(), self.text("crl.der")),
            ("--nonce".to_owned(), hex::encode(NONCE)),
            ("--kn".to_owned(), hex::encode(parcel.kn)),
            ("--header".to_owned(), parcel.header.to_owned()),
        ];
        let options = holders.as_flattened().iter().chain(&others);
        let options: Vec<_> = options
            .flat_map(|(option, value)| [option.as_str(), value.as_str()])
            .collect();
        self.java.make_clover(&options).unwrap();
        |token| fs::read(self.file(&format!("{token}.der"))).unwrap()
    }

    /// What Bouncy Castle says; what a job has no use for it is given all the same.
    pub(crate) fn bouncy_castle(&self, job: &str, token: &Token) -> anyhow::Result<Report> {
        let (file, signer) = (
            text(&token.file),
            self.text(&format!("{}.pem", token.signer)),
        );
        let (certificate, key) = (self.text("krd.pem"), self.text("krd.key"));
        let verify = ["--token", &file, "--signer-cert", &signer];
        let open = ["--recipient-cert", &certificate, "--recipient-key", &key];
        self.java.read(job, &[verify, open].concat())
    }

    /// What asn1crypto says.
    pub(crate) fn asn1crypto(&self, token: &Token) -> Report {
        asn1crypto(&token.file, &self.log()).unwrap()
    }
}

pub(crate) fn nonce_of(profile: Profile) -> KrdNonce {
    KrdNonce::new(&NONCE[..profile.nonce_len()]).unwrap()
}

pub(crate) fn two_pass(profile: Profile) -> Freshness {
    Freshness::Nonce(nonce_of(profile))
}

/// As both readers print an identity.
fn name(identity: &IssuerAndSerial) -> String {
    hex::encode(identity.to_der())
}

pub(crate) fn rfc3339(time: SigningTime) -> String {
    let seconds = i64::try_from(time.unix_seconds()).unwrap();
    OffsetDateTime::from_unix_timestamp(seconds)
        .unwrap()
        .format(&Rfc3339)
        .unwrap()
}

const fn object_identifier(cipher: ContentCipher) -> &'static str {
    match cipher {
        ContentCipher::Aes128Cbc => "2.16.840.1.101.3.4.1.2",
        ContentCipher::Aes256Cbc => "2.16.840.1.101.3.4.1.42",
        ContentCipher::DesEde3Cbc => "1.2.840.113549.3.7",
    }
}

/// The signing time that a reader reports.
pub(crate) fn signing_time(report: &Report) -> SigningTime {
    let time = OffsetDateTime::parse(&report["signing-time"], &Rfc3339).unwrap();
    SigningTime::from_unix_seconds(time.unix_timestamp().try_into().unwrap()).unwrap()
}
