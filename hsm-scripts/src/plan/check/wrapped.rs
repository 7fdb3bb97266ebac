//! Keys that arrived encrypted.

use std::{collections::BTreeMap, path::Path};

use hsm::{
    ImportForm, Kcv, KcvMethod, KeyRole, KeyWrap, UpstreamFreshness, WrappedKey, read_ciphertext,
    verify_announced_header,
};
use inspector::Input;
use pki::{Certificate, Crl};
use sha2::{Digest, Sha256};
use time::Duration;
use tr31::KeyBlock;
use tr34::{Kbh, KeyKind, OaepHash, Profile};

use super::Check;
use crate::{
    CeremonyError,
    plan::{Arrived, ArrivedKey, KeyPlace, Mode, UpstreamPlan, WrappedPlan, raw},
};

/// Nothing that arrives is longer: a TR-34 token in hexadecimal digits.
const MAX_FILE_LEN: u64 = 256 * 1024;

impl<'a> Check<'a> {
    pub(super) fn wrapped(
        &mut self,
        place: &str,
        act: &'a raw::ImportWrapped,
    ) -> Option<WrappedPlan> {
        let key = self.new_key(place, &act.token, &act.key);
        let mut roles = [KeyRole::TransportKey, KeyRole::Bdk].into_iter();
        let role = roles.find(|role| {
            let name = act.key.strip_prefix(role.label_prefix());
            name.is_some_and(|name| !name.is_empty())
        });
        if role.is_none() {
            self.fault(
                place,
                "key: a master key's label is kn.NAME, a BDK's bdk.NAME",
            );
        }
        let under = self.key(&format!("{place}: under"), &act.token, &act.under);
        let form = self.form(place, act);
        let kind = self.kind(place, &act.kind)?;
        let kcv = Kcv::parse(KcvMethod::for_key(kind), &act.kcv);
        let kcv = self.sound(&format!("{place}: kcv"), kcv);
        let announced = act.header.as_deref();
        let header = announced.and_then(|header| {
            self.header(place, header, kind, role.unwrap_or(KeyRole::TransportKey))
        });
        if act.header.is_none() && matches!(form, ImportForm::Tr31 | ImportForm::Tr34) {
            self.fault(
                place,
                "header: the key comes with one, and it has to be the one that was announced",
            );
        }
        // A rehearsal makes up what arrives.
        let arrived = match self.mode {
            Mode::Real => Some(self.arrived(place, act, under.as_ref())?),
            Mode::Rehearsal => None,
        };
        Some(WrappedPlan {
            place: key?,
            kind,
            kcv: kcv?,
            header,
            form,
            under: under?,
            arrived,
        })
    }

    /// What belongs to the form stands there, and nothing that belongs to another.
    fn form(&mut self, place: &str, act: &'a raw::ImportWrapped) -> ImportForm {
        let form = act.form;
        let prefix = form.under().label_prefix();
        if !act.under.starts_with(prefix) {
            self.fault(
                place,
                format!("under: the key of {form} is called {prefix}NAME"),
            );
        }
        let has = [
            ("transport-key", act.transport_key.is_some()),
            ("oaep-hash", act.oaep_hash.is_some()),
            ("key-wrap", act.key_wrap.is_some()),
            ("upstream", act.upstream.is_some()),
        ];
        let may: &[&str] = match form {
            ImportForm::RsaOaep => &["transport-key", "oaep-hash", "key-wrap"],
            ImportForm::Zmk => &["key-wrap"],
            ImportForm::Tr31 => &[],
            ImportForm::Tr34 => &["upstream"],
        };
        for (name, is_there) in has {
            if is_there && !may.contains(&name) {
                self.fault(place, format!("{name}: is not for {form}"));
            }
        }
        if form == ImportForm::RsaOaep && act.transport_key.is_none() {
            self.fault(
                place,
                "transport-key: names the file with the encrypted transport key",
            );
        }
        if form == ImportForm::Tr34 && act.upstream.is_none() {
            self.fault(place, "upstream: says who sent the token");
        }
        for (name, file) in [
            ("file", Some(&act.file)),
            ("transport-key", act.transport_key.as_ref()),
        ] {
            if let Some(file) = file {
                self.plain_path(&format!("{place}: {name}"), file);
            }
        }
        form
    }

    fn header(&mut self, place: &str, header: &str, kind: KeyKind, role: KeyRole) -> Option<Kbh> {
        let place = format!("{place}: header");
        let header = self.sound(&place, Kbh::parse_plain(header.as_bytes()))?;
        self.sound(&place, verify_announced_header(&header, kind, role))?;
        Some(header)
    }

    /// Reads what arrived, so that what was checked is what is used.
    fn arrived(
        &mut self,
        place: &str,
        act: &'a raw::ImportWrapped,
        under: Option<&KeyPlace>,
    ) -> Option<Arrived> {
        let mut files = Files {
            folder: self.folder,
            digests: BTreeMap::new(),
        };
        let place_of_file = format!("{place}: file");
        let key_wrap = |bytes| KeyWrap {
            padded: act.key_wrap == Some(raw::KeyWrap::Rfc5649),
            bytes,
        };
        let what = match act.form {
            ImportForm::RsaOaep => {
                let transport_key = files.read_ciphertext(act.transport_key.as_ref()?);
                let key = files.read_ciphertext(&act.file);
                let transport_key = self.sound(&format!("{place}: transport-key"), transport_key);
                let key = key_wrap(self.sound(&place_of_file, key)?);
                ArrivedKey::Wrapped(WrappedKey::RsaOaep {
                    pair: under?.key.clone(),
                    oaep: act.oaep_hash.unwrap_or(OaepHash::Sha256),
                    transport_key: transport_key?,
                    key,
                })
            }
            ImportForm::Zmk => {
                let key = files.read_ciphertext(&act.file);
                let key = key_wrap(self.sound(&place_of_file, key)?);
                let zmk = under?.key.clone();
                ArrivedKey::Wrapped(WrappedKey::Zmk { zmk, key })
            }
            ImportForm::Tr31 => {
                let text = self.sound(&place_of_file, files.read(&act.file))?;
                let block = KeyBlock::parse(text.trim_ascii());
                let block = self.sound(&place_of_file, block)?;
                let kbpk = under?.key.clone();
                ArrivedKey::Wrapped(WrappedKey::Tr31 { kbpk, block })
            }
            ImportForm::Tr34 => {
                let file = self.sound(&place_of_file, files.read(&act.file))?;
                let token = self.sound(&place_of_file, Input::read(&file))?.der;
                let upstream = self.upstream(place, act.upstream.as_ref()?, token, &mut files)?;
                ArrivedKey::KeyToken(Box::new(upstream))
            }
        };
        Some(Arrived {
            what,
            digests: files.digests,
        })
    }

    fn upstream(
        &mut self,
        place: &str,
        raw: &'a raw::Upstream,
        token: Vec<u8>,
        files: &mut Files<'_>,
    ) -> Option<UpstreamPlan> {
        let place = format!("{place}: upstream");
        let profile: Profile = self.sound(&place, raw.profile.parse())?;
        let certificates = [&raw.certificate, &raw.ca, &raw.receiver];
        let certificates = certificates.map(|file| files.read_certificate(file));
        let crl = raw.crl.as_ref().map(|file| files.read_crl(file));
        let [sender, ca, receiver] =
            certificates.map(|certificate| self.sound(&place, certificate));
        let crl = match crl {
            Some(crl) => Some(self.sound(&place, crl)?.der().to_vec()),
            None => None,
        };
        if raw.signed_within_hours == Some(0) {
            self.fault(&place, "signed-within-hours: begins with 1");
        }
        Some(UpstreamPlan {
            token,
            profile,
            sender: sender?,
            ca: ca?,
            crl,
            receiver: receiver?,
            freshness: raw
                .signed_within_hours
                .map_or(UpstreamFreshness::Nonce, |hours| {
                    UpstreamFreshness::SignedWithin(Duration::hours(hours.into()))
                }),
        })
    }
}

/// Files that were read, with their digests for the record.
struct Files<'a> {
    folder: &'a Path,
    digests: BTreeMap<String, String>,
}

impl Files<'_> {
    fn read(&mut self, file: &Path) -> Result<Vec<u8>, CeremonyError> {
        use std::io::Read as _;
        let path = self.folder.join(file);
        let failed = |error: std::io::Error| CeremonyError::file(&path, error);
        let mut bytes = Vec::new();
        let opened = std::fs::File::open(&path).map_err(failed)?;
        opened
            .take(MAX_FILE_LEN + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > MAX_FILE_LEN {
            return Err(CeremonyError::file(
                &path,
                "is too long for an encrypted key",
            ));
        }
        let digest = hex::encode(Sha256::digest(&bytes));
        self.digests.insert(file.display().to_string(), digest);
        Ok(bytes)
    }

    fn read_certificate(&mut self, file: &Path) -> Result<Certificate, CeremonyError> {
        let bytes = self.read(file)?;
        let failed =
            |error: &dyn std::fmt::Display| CeremonyError::file(&self.folder.join(file), error);
        let pem = str::from_utf8(&bytes).map_err(|error| failed(&error))?;
        Certificate::from_pem(pem).map_err(|error| failed(&error))
    }

    fn read_crl(&mut self, file: &Path) -> Result<Crl, CeremonyError> {
        let bytes = self.read(file)?;
        Crl::from_pem_or_der(&bytes)
            .map_err(|error| CeremonyError::file(&self.folder.join(file), error))
    }

    fn read_ciphertext(&mut self, file: &Path) -> Result<Vec<u8>, CeremonyError> {
        let bytes = self.read(file)?;
        read_ciphertext(bytes).map_err(|error| CeremonyError::file(&self.folder.join(file), error))
    }
}
