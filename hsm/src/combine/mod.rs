//! Combining components: the XOR of what custodians bring, computed so that the sum never stands
//! outside of the module.
//!
//! Each component does pass through this process on its way in; nothing else can be done with one
//! that arrives on paper.

mod key_wrap;
mod xor;

use cryptoki::{
    object::{Attribute, ObjectClass, ObjectHandle},
    session::Session,
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tr34::KeyKind;
use zeroize::Zeroizing;

use crate::{
    ClearKey, CombiningWay, HsmError, Kcv, KeyName, KeyRole, SecretKey, Token, check_value,
    error::CallResult,
    inspect::{key_type, require_free, require_role},
    keys::may,
    limit,
    secret::SecretTemplate,
    self_test,
    template::{Flag, Lives, TRANSPORT_KEY, Template},
    token::self_test_failed,
    worker::{Ephemeral, Worker, Workplace},
};

/// Components are cut into pieces of this length, and a piece of zeros would leave that part of the
/// key to fewer custodians than there are.
const PIECE_LEN: usize = 8;

const MIN_COMPONENTS: usize = 2;

/// A key that grows from components. Dropped before [`Self::finish`], it leaves nothing.
#[must_use = "nothing is kept before it is finished"]
pub struct Combination {
    /// The partial sum lives in a session of its own, and goes with it.
    worker: Worker,
    sum: Sum,
    /// Whether the key may be derived from, for a module that seals that way.
    derives: bool,
    /// Of the components so far: what tells that one comes a second time.
    digests: Vec<[u8; 32]>,
    /// Keeps the login.
    token: Token,
}

/// The ladder.
pub(crate) const LADDER: [CombiningWay; 2] = [CombiningWay::Xor, CombiningWay::KeyWrap];

/// The mechanisms that the module would have to list for a way, and does not.
pub(crate) fn missing(place: &Workplace, way: CombiningWay) -> Vec<&'static str> {
    match way {
        CombiningWay::Xor => place.lacks(&xor::MECHANISMS),
        CombiningWay::KeyWrap => place.lacks(&key_wrap::MECHANISMS),
    }
}

/// The check value of the sum of throw-away components.
pub(crate) fn trial(
    session: &Session,
    way: CombiningWay,
    kind: KeyKind,
    components: &[Zeroizing<Vec<u8>>],
) -> Result<Kcv, HsmError> {
    let mut sum = Sum::new(way, kind);
    let added = components
        .iter()
        .try_for_each(|component| sum.add(session, &ClearKey::copy_from(component)))
        .and_then(|()| {
            let check = sum.make(session, check_value::template(kind), Lives::InSession, &[])?;
            check_value::of(&check, session, kind, Kcv::LEN)
        });
    sum.destroy(session);
    added
}

/// The XOR of the components so far, inside the module.
struct Sum {
    way: CombiningWay,
    kind: KeyKind,
    parts: Vec<ObjectHandle>,
}

impl Sum {
    const fn new(way: CombiningWay, kind: KeyKind) -> Self {
        Self {
            way,
            kind,
            parts: Vec::new(),
        }
    }

    fn add(&mut self, session: &Session, component: &ClearKey) -> Result<(), HsmError> {
        let parts = match self.way {
            CombiningWay::KeyWrap => key_wrap::add(session, &self.parts, component)?,
            CombiningWay::Xor => xor::add(session, &self.parts, component)?,
        };
        self.destroy(session);
        self.parts = parts;
        Ok(())
    }

    fn destroy(&mut self, session: &Session) {
        for part in self.parts.drain(..) {
            drop(Ephemeral::new(session, part));
        }
    }

    /// The sum as a key.
    fn make<'s>(
        &self,
        session: &'s Session,
        template: &Template,
        lives: Lives,
        more: &[Attribute],
    ) -> Result<Ephemeral<'s>, HsmError> {
        let mut attributes = template.attributes(lives);
        attributes.push(Attribute::Class(ObjectClass::SECRET_KEY));
        attributes.push(Attribute::KeyType(key_type(self.kind)));
        attributes.extend_from_slice(more);
        match self.way {
            CombiningWay::KeyWrap => key_wrap::make(session, &self.parts, &attributes),
            CombiningWay::Xor => xor::make(session, &self.parts, self.kind, attributes),
        }
    }
}

impl Combination {
    pub(crate) fn start(token: Token, kind: KeyKind) -> Result<Self, HsmError> {
        let way = *token.combining()?.as_ref().map_err(self_test_failed)?;
        let worker = token.writer()?;
        let derives = self_test::assembles(&worker)?;
        Ok(Self {
            worker,
            sum: Sum::new(way, kind),
            derives,
            digests: Vec::new(),
            token,
        })
    }

    /// Components so far.
    pub fn len(&self) -> usize {
        self.digests.len()
    }

    /// Whether there is no component yet.
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Adds a component and returns its own check value, for its custodian to confirm.
    ///
    /// # Errors
    /// The component is of another length, zero in a piece of 8 bytes, or one that was added before;
    /// or a call failed. The sum is what it was then.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a component is spent by adding it"
    )]
    pub fn add(&mut self, component: ClearKey) -> Result<Kcv, HsmError> {
        let digest = self.require_sound(&component)?;
        let session = &self.worker.session;
        let kcv = component_kcv(session, &component, self.sum.kind)?;
        self.sum.add(session, &component)?;
        self.digests.push(digest);
        Ok(kcv)
    }

    /// Makes the sum a master key in the token, if its check value is `expected`.
    ///
    /// # Errors
    /// Fewer than two components; [`HsmError::KcvMismatch`]; the name is taken. Nothing is kept then.
    pub fn finish(self, name: &KeyName, expected: &Kcv) -> Result<SecretKey, HsmError> {
        if self.len() < MIN_COMPONENTS {
            return Err(HsmError::BadComponent {
                reason: "is the only one; it takes two at least",
            });
        }
        let session = &self.worker.session;
        require_free(session, name)?;

        // First as a key that can do nothing but make the check value: a wrong sum never enters the
        // token. Then as what it is for.
        let kind = self.sum.kind;
        let check = check_value::template(kind);
        let check = self.sum.make(session, check, Lives::InSession, &[])?;
        let len = expected.value().len();
        require_kcv(expected, check_value::of(&check, session, kind, len)?)?;
        let more = [
            Attribute::Label(name.label().into()),
            Attribute::Id(name.id().to_vec()),
            Flag::Derive.set(self.derives),
        ];
        let limit = limit::of_secret(&TRANSPORT_KEY, kind, self.derives);
        let key = limit::make(&limit, |limit| {
            let more = [&more[..], limit.as_slice()].concat();
            self.sum
                .make(session, &TRANSPORT_KEY, Lives::InToken, &more)
        })?;
        let place = &self.worker.place;
        require_role(session, key.handle(), KeyRole::TransportKey, name, place)?;
        limit::require(session, key.handle(), &limit, name.label())?;
        let found = check_value::of_copy(session, key.handle(), kind, len)?;
        require_kcv(expected, found)?;
        let may_derive = may(session, key.handle(), Flag::Derive, name)?;
        key.keep();
        Ok(SecretKey::new(
            name.clone(),
            KeyRole::TransportKey,
            kind,
            may_derive,
        ))
    }

    fn require_sound(&self, component: &ClearKey) -> Result<[u8; 32], HsmError> {
        let bytes = component.expose_clear();
        if bytes.len() != self.sum.kind.key_len() {
            return Err(HsmError::KeyLength {
                expected: self.sum.kind.key_len(),
                found: bytes.len(),
            });
        }
        let zero = [0; PIECE_LEN];
        let is_zero = |piece: &[u8]| bool::from(piece.ct_eq(&zero));
        if bytes.chunks_exact(PIECE_LEN).any(is_zero) {
            return Err(HsmError::BadComponent {
                reason: "is zero, all of it or 8 bytes",
            });
        }
        let digest: [u8; 32] = Sha256::digest(bytes).into();
        if self.digests.contains(&digest) {
            return Err(HsmError::BadComponent {
                reason: "was added before",
            });
        }
        Ok(digest)
    }
}

impl std::fmt::Debug for Combination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Combination({} of {} components in {:?})",
            self.sum.kind,
            self.len(),
            self.token
        )
    }
}

fn require_kcv(expected: &Kcv, found: Kcv) -> Result<(), HsmError> {
    if found == *expected {
        return Ok(());
    }
    Err(HsmError::KcvMismatch {
        expected: expected.clone(),
        found,
    })
}

fn component_kcv(session: &Session, component: &ClearKey, kind: KeyKind) -> Result<Kcv, HsmError> {
    let mut template = check_value::template(kind).attributes_with_class(Lives::InSession);
    template.push(Attribute::KeyType(key_type(kind)));
    let template = SecretTemplate::new(template, component.expose_clear());
    let key = session
        .create_object(template.as_slice())
        .during("import a component")?;
    check_value::of(&Ephemeral::new(session, key), session, kind, Kcv::LEN)
}
