//! Looking into a key token, for whoever has to find out what is wrong with one.

use hsm::{Kcv, KeyName};
use inspector::{HeaderWords, Party, recognise};
use serde::Serialize;
use tr34::Profile;

use crate::{
    KcvMethodName, KrdError, Terminal, key_token::ReadKeyToken, record::KcvRecord, token_from_file,
};

/// What is in a key token that was opened. Nothing of it is trusted, and nothing of it was kept.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct OpenedToken {
    /// `kt-kdh-two-pass` for one that answers a nonce, else `kt-kdh-one-pass`.
    pub token: &'static str,
    /// How it is written.
    pub profile: &'static str,
    /// Who is said to have signed it: issuer and serial number.
    pub signer: Party,
    /// Whom it is for.
    pub recipient: Party,
    /// When it was signed, if it says so.
    pub signing_time: Option<String>,
    /// The header, the same outside and inside.
    pub header: HeaderWords,
    /// Bytes of the key.
    pub key_len: usize,
    /// Its check value, computed in the HSM.
    pub kcv: String,
    /// How that is computed.
    pub kcv_method: KcvMethodName,
    /// What would have to be checked before the key is loaded, and was not.
    pub not_checked: [&'static str; 4],
}

impl Terminal {
    /// Opens a key token, from the bytes of a file, with the decryption key of this label, or with the
    /// terminal's own. Without a profile it is the configured one, if the token is of that, or else the one
    /// that it is of. The key goes into the HSM to have its check value computed, and goes
    /// from there with the end of this call.
    ///
    /// Whoever made the token: no signature, revocation list, nonce or time is looked at. That the block
    /// opens says only that it was made for this key, and that what stands round the key in it is what
    /// stands outside.
    ///
    /// # Errors
    /// It does not parse as a key token of this profile, or does not open.
    pub fn open_token(
        &self,
        file: &[u8],
        key_label: Option<&str>,
        profile: Option<Profile>,
    ) -> Result<OpenedToken, KrdError> {
        let der = token_from_file(file)?;
        let (kind, profiles) = match recognise(&der) {
            Ok((token, profiles)) => (token.word(), profiles),
            // Let the reader of the one profile say what is wrong with it.
            Err(_) => ("", Vec::new()),
        };
        let configured = self.config.profile;
        let found = profiles.into_iter().reduce(
            |first, other| {
                if other == configured { other } else { first }
            },
        );
        let profile = profile.or(found).unwrap_or(configured);
        let read = ReadKeyToken::parse(profile, &der)?;
        let name = match key_label {
            Some(label) => KeyName::new(label)?,
            None => Self::encryption_key_name()?,
        };
        let key = self.token.decryption_key(&name)?;
        let staged = self.opener(key)?.open(&read)?;
        let kcv = staged.kcv(Kcv::LEN)?;
        let token = read.token();
        Ok(OpenedToken {
            token: kind,
            profile: profile.name(),
            signer: Party::of(token.signed_by().signer()),
            recipient: Party::of(token.enveloped().recipient()),
            signing_time: token.signing_time().map(|at| at.to_string()),
            header: HeaderWords::of(token.header()),
            key_len: staged.kind().key_len(),
            kcv: kcv.to_string(),
            kcv_method: KcvRecord::from(&kcv).method,
            not_checked: ["signature", "revocation", "freshness", "recipient"],
        })
    }
}
