//! Unbind and rebind: the same act with another token.

use kdh_proto::v1::fetch_authority_token_response::Token as AuthorityToken;
use tr34::{RandomToken, TokenKind};

use crate::{
    CaTokenExpectation, Credentials, CurrentKdhToken, Kdh, KdhTokenExpectation, KrdError, Terminal,
    VerifiedBindingToken, host::Host, token_from_file, verify_ca_rebind, verify_ca_unbind,
};

use super::obey::Moved;

/// Where an unbind or rebind token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// By the KDH that the terminal is bound to: asked for at the host.
    Kdh,
    /// By `CA_KRD`, because that KDH is lost: fetched from the host.
    Authority,
    /// The same from a file with these bytes, DER or PEM: off line.
    AuthorityFile(Vec<u8>),
}

/// Which way a token moves the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    /// To nobody.
    Unbind,
    /// To another KDH.
    Rebind,
}

impl Terminal {
    /// Takes an unbind token: destroys every key that the terminal holds and forgets its KDH.
    ///
    /// # Errors
    /// There is no such token, or it is not acceptable; the terminal is bound as before then. If the
    /// token's keys cannot be destroyed, the next act goes on with that before anything else.
    pub async fn unbind(&self, source: TokenSource) -> Result<Moved, KrdError> {
        self.be_moved(Move::Unbind, source).await
    }

    /// Takes a rebind token: the terminal is bound to the KDH in it, which its keys belong to from then
    /// on.
    ///
    /// # Errors
    /// There is no such token, or it is not acceptable; the terminal is bound as before then.
    pub async fn rebind(&self, source: TokenSource) -> Result<Moved, KrdError> {
        self.be_moved(Move::Rebind, source).await
    }

    async fn be_moved(&self, how: Move, source: TokenSource) -> Result<Moved, KrdError> {
        let (_, credentials) = self.credentials()?;
        match source {
            TokenSource::AuthorityFile(bytes) => {
                self.settled_binding()?;
                let token = token_from_file(&bytes)?;
                self.obey(&self.verify_ca_token(how, &token, &credentials)?)
            }
            TokenSource::Authority => {
                self.bound(&credentials).await?;
                let mut host = self.connect(&credentials).await?;
                let token = self.fetch_ca_token(how, &mut host, &credentials).await?;
                self.obey_and_report(&token, &mut host).await
            }
            TokenSource::Kdh => {
                let binding = self.bound(&credentials).await?;
                let kdh = binding.kdh()?;
                let mut host = self.connect(&credentials).await?;
                let token = self.request_move(how, &mut host, kdh, &credentials).await?;
                self.obey_and_report(&token, &mut host).await
            }
        }
    }

    /// Obeys a token that came over this connection, and says so over it.
    pub(super) async fn obey_and_report(
        &self,
        token: &VerifiedBindingToken,
        host: &mut Host,
    ) -> Result<Moved, KrdError> {
        let moved = self.obey(token)?;
        Ok(Moved {
            acknowledged: self.send_acknowledgements(host).await?,
            ..moved
        })
    }

    /// Asks the bound KDH for a token with a fresh nonce, and checks what comes.
    pub(super) async fn request_move(
        &self,
        how: Move,
        host: &mut Host,
        kdh: &Kdh,
        credentials: &Credentials,
    ) -> Result<VerifiedBindingToken, KrdError> {
        let nonce = self.fresh_nonce()?;
        let rt_krd = RandomToken::new(nonce.clone()).to_der();
        self.evidence.keep("rt-krd.der", &rt_krd)?;
        let token = match how {
            Move::Unbind => host.request_unbind(rt_krd).await?,
            Move::Rebind => host.request_rebind(rt_krd).await?,
        };
        let remembered = self.memory().crl()?;
        let trust = self.kdh_trust(remembered.as_ref());
        let current = match how {
            Move::Unbind => {
                self.evidence.keep("ubt-kdh.der", &token)?;
                CurrentKdhToken::unbind(&token, &trust)?
            }
            Move::Rebind => {
                self.evidence.keep("rbt-kdh.der", &token)?;
                CurrentKdhToken::rebind(&token, &trust)?
            }
        };
        self.memory().keep_crl(current.crl())?;
        Ok(current.verify_origin(&KdhTokenExpectation {
            trust,
            kdh: kdh.certificate(),
            nonce: &nonce,
            own_id: &Self::own_id(credentials)?,
        })?)
    }

    async fn fetch_ca_token(
        &self,
        how: Move,
        host: &mut Host,
        credentials: &Credentials,
    ) -> Result<VerifiedBindingToken, KrdError> {
        let token = match (how, host.fetch_authority_token().await?) {
            (Move::Unbind, AuthorityToken::UbtCa(token))
            | (Move::Rebind, AuthorityToken::RbtCa(token)) => token,
            (Move::Unbind, AuthorityToken::RbtCa(_)) => {
                return Err(KrdError::OtherAuthorityToken {
                    signed: TokenKind::CaRebind,
                    command: "krd rebind --authority",
                });
            }
            (Move::Rebind, AuthorityToken::UbtCa(_)) => {
                return Err(KrdError::OtherAuthorityToken {
                    signed: TokenKind::CaUnbind,
                    command: "krd unbind --authority",
                });
            }
        };
        self.verify_ca_token(how, &token, credentials)
    }

    fn verify_ca_token(
        &self,
        how: Move,
        token: &[u8],
        credentials: &Credentials,
    ) -> Result<VerifiedBindingToken, KrdError> {
        let remembered = self.memory().crl()?;
        let expected = CaTokenExpectation {
            trust: self.kdh_trust(remembered.as_ref()),
            ca: &self.config.trust.krd,
            own_id: &Self::own_id(credentials)?,
            // Only key tokens are counted by their times: a token of the CA is obeyed once by itself.
            signing_time: self.signing_time_bounds(credentials, None),
        };
        Ok(match how {
            Move::Unbind => {
                self.evidence.keep("ubt-ca.der", token)?;
                verify_ca_unbind(token, &expected)?
            }
            Move::Rebind => {
                self.evidence.keep("rbt-ca.der", token)?;
                verify_ca_rebind(token, &expected)?
            }
        })
    }
}
