//! Combining components: the XOR of what custodians bring, computed so that the sum never stands
//! outside of the module.
//!
//! Each component does pass through this process on its way in; nothing else can be done with one
//! that arrives on paper.

mod key_wrap;
mod xor;

use cryptoki::{
    mechanism::MechanismType,
    object::{Attribute, ObjectClass, ObjectHandle},
    session::Session,
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tr34::KeyKind;

use crate::{
    ClearKey, CombiningWay, HsmError, Kcv, KeyName, KeyRole, SecretKey, Token, check_value,
    error::CallResult,
    inspect::{key_type, require_free, require_role},
    secret::SecretTemplate,
    template::{Lives, TRANSPORT_KEY, Template},
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
    way: CombiningWay,
    kind: KeyKind,
    partial: Vec<ObjectHandle>,
    /// Of the components so far: what tells that one comes a second time.
    digests: Vec<[u8; 32]>,
    /// Keeps the login.
    token: Token,
}

/// The way that the module allows, or what it lacks for the way that needs least.
pub(crate) fn choose(place: &Workplace) -> Result<CombiningWay, Vec<&'static str>> {
    if place.has(MechanismType::XOR_BASE_AND_DATA) {
        return Ok(CombiningWay::Xor);
    }
    let missing = place.lacks(&key_wrap::MECHANISMS);
    if missing.is_empty() {
        Ok(CombiningWay::KeyWrap)
    } else {
        Err(missing)
    }
}

impl Combination {
    pub(crate) fn start(token: Token, kind: KeyKind) -> Result<Self, HsmError> {
        let worker = token.writer()?;
        let way = choose(&worker.place).map_err(|missing| HsmError::Unsupported {
            operation: "combining components".to_owned(),
            missing,
        })?;
        Ok(Self {
            worker,
            way,
            kind,
            partial: Vec::new(),
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
        let kcv = component_kcv(session, &component, self.kind)?;
        let sum = match self.way {
            CombiningWay::KeyWrap => key_wrap::add(session, &self.partial, &component)?,
            CombiningWay::Xor => xor::add(session, &self.partial, &component)?,
        };
        let replaced = std::mem::replace(&mut self.partial, sum);
        for part in replaced {
            drop(Ephemeral::new(session, part));
        }
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
        let check = self.make(check_value::template(self.kind), Lives::InSession, None)?;
        let len = expected.value().len();
        require_kcv(expected, check_value::of(&check, session, self.kind, len)?)?;
        let key = self.make(&TRANSPORT_KEY, Lives::InToken, Some(name))?;
        require_role(session, key.handle(), KeyRole::TransportKey, name, false)?;
        let found = check_value::of_copy(session, key.handle(), self.kind, len)?;
        require_kcv(expected, found)?;
        key.keep();
        Ok(SecretKey::new(
            name.clone(),
            KeyRole::TransportKey,
            self.kind,
        ))
    }

    /// The sum as a key.
    fn make(
        &self,
        template: &Template,
        lives: Lives,
        name: Option<&KeyName>,
    ) -> Result<Ephemeral<'_>, HsmError> {
        let mut attributes = template.attributes(lives);
        attributes.push(Attribute::Class(ObjectClass::SECRET_KEY));
        attributes.push(Attribute::KeyType(key_type(self.kind)));
        if let Some(name) = name {
            attributes.push(Attribute::Label(name.label().into()));
            attributes.push(Attribute::Id(name.id().to_vec()));
        }
        let session = &self.worker.session;
        match self.way {
            CombiningWay::KeyWrap => key_wrap::make(session, &self.partial, &attributes),
            CombiningWay::Xor => xor::make(session, &self.partial, self.kind, attributes),
        }
    }

    fn require_sound(&self, component: &ClearKey) -> Result<[u8; 32], HsmError> {
        let bytes = component.expose_clear();
        if bytes.len() != self.kind.key_len() {
            return Err(HsmError::KeyLength {
                expected: self.kind.key_len(),
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
            self.kind,
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
