//! Other hosts that send keys in TR-34 tokens, and what their tokens have to fit.

use std::path::PathBuf;

use hsm::{KeyName, UpstreamFreshness};
use pki::Certificate;
use tr34::Profile;

use super::{Check, raw};
use crate::names::SenderName;

/// Longer than any token is on its way.
const MAX_SIGNED_WITHIN_HOURS: u64 = 24 * 30;

/// Another host that sends keys in TR-34 tokens.
#[derive(Clone, Debug)]
pub struct KeySender {
    /// How operators call it.
    pub name: String,
    /// Its dialect.
    pub profile: Profile,
    /// Its certificate.
    pub certificate: Certificate,
    /// The CA that certified it.
    pub ca: Certificate,
    /// The file with that CA's revocation list; what tokens bring alone if there is none.
    pub crl: Option<PathBuf>,
    /// The label of our import pair.
    pub pair: KeyName,
    /// The certificate of the import pair as a receiver.
    pub receiver: Certificate,
    /// By what its tokens are known as fresh.
    pub freshness: UpstreamFreshness,
}

impl Check<'_> {
    pub(super) fn key_senders(&mut self, raw: &[raw::KeySender]) -> Vec<KeySender> {
        let mut senders = Vec::<KeySender>::new();
        for raw in raw {
            let Some(sender) = self.key_sender(raw) else {
                continue;
            };
            for other in &senders {
                self.distinct_senders(&sender, other);
            }
            senders.push(sender);
        }
        senders
    }

    fn key_sender(&mut self, raw: &raw::KeySender) -> Option<KeySender> {
        let name = SenderName::parse(&raw.name);
        let name = name.map_err(|error| self.fault("key-senders.name", error));
        let key = |field: &str| format!("key-senders.{}.{field}", raw.name);
        let profile = raw.profile.parse::<Profile>();
        let profile = profile.map_err(|error| self.fault(&key("profile"), error));
        let certificate = self.certificate(&key("certificate"), &raw.certificate);
        let ca = self.certificate(&key("ca"), &raw.ca);
        let receiver = self.certificate(&key("receiver"), &raw.receiver);
        let pair = self.key_name(&key("pair"), &raw.pair);
        let freshness = match raw.signed_within_hours {
            Some(hours) => {
                self.range(
                    &key("signed-within-hours"),
                    hours,
                    1,
                    MAX_SIGNED_WITHIN_HOURS,
                );
                let hours = time::Duration::hours(i64::try_from(hours).ok()?);
                UpstreamFreshness::SignedWithin(hours)
            }
            None => UpstreamFreshness::Nonce,
        };
        Some(KeySender {
            name: name.ok()?.as_str().to_owned(),
            profile: profile.ok()?,
            certificate: certificate?,
            ca: ca?,
            crl: raw.crl.as_ref().map(|path| self.path(path)),
            pair: pair?,
            receiver: receiver?,
            freshness,
        })
    }

    /// A sender that stands there twice would be trusted by the weaker entry. And a pair keeps one nonce, which
    /// two senders would take from each other.
    fn distinct_senders(&mut self, sender: &KeySender, other: &KeySender) {
        let (name, other_name) = (&sender.name, &other.name);
        if name == other_name {
            self.fault("key-senders.name", format!("{name:?} stands there twice"));
        }
        if sender.certificate.public_key() == other.certificate.public_key() {
            self.fault(
                &format!("key-senders.{name}.certificate"),
                format!("its key is that of {other_name:?}: name each sender once"),
            );
        }
        let by_nonce = |sender: &KeySender| sender.freshness == UpstreamFreshness::Nonce;
        if sender.pair == other.pair && by_nonce(sender) && by_nonce(other) {
            self.fault(
                &format!("key-senders.{name}.pair"),
                format!(
                    "{} waits for an answer of {other_name:?} already: make a pair for each sender that \
                     answers nonces, or set signed-within-hours",
                    sender.pair
                ),
            );
        }
    }
}
