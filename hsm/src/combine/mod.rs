//! Combining components: the XOR of what custodians bring, computed so that the sum never stands
//! outside of the module.
//!
//! ```text
//! rules         what a component and a sum have to be
//! xor           the sum where the module has XOR
//! key_wrap      the sum where it has not
//! combination   a sum at one sitting: in a session, and gone with it
//! stored        a sum at several sittings: in the token, until it is finished, given up or expired
//! state         what the token records of a stored sum
//! finish        from a sum to a master key
//! ```
//!
//! Each component does pass through this process on its way in; nothing else can be done with one
//! that arrives on paper.

mod combination;
mod finish;
mod key_wrap;
mod rules;
mod state;
mod stored;
mod xor;

use cryptoki::object::{Attribute, ObjectClass, ObjectHandle};
use tr34::KeyKind;
use zeroize::Zeroizing;

use self::state::Generation;
pub(crate) use self::stored::{destroy, list, resume, sweep};
pub use self::{
    combination::Combination,
    finish::Completion,
    rules::require_sound_component,
    state::{EnteredComponent, SumId, SumTarget},
    stored::{StoredSum, StoredSumSummary},
};
use crate::{
    ClearKey, CombiningWay, HsmError, Kcv, check_value,
    error::CallResult,
    inspect::key_type,
    secret::SecretTemplate,
    session::Session,
    template::{Lives, Template},
    worker::{Ephemeral, Workplace},
};

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
        .and_then(|()| sum.check_value(session, Kcv::LEN));
    sum.destroy(session);
    added
}

/// Where the parts of a sum live.
enum Home {
    Session,
    /// In the token, under the name of their generation.
    Token(Generation),
}

impl Home {
    /// The attributes of the part at `position`.
    fn attributes(&self, template: &Template, position: usize) -> Vec<Attribute> {
        match self {
            Self::Session => template.attributes_with_class(Lives::InSession),
            Self::Token(generation) => {
                let mut attributes = template.attributes_with_class(Lives::InToken);
                attributes.extend(generation.name(position));
                attributes
            }
        }
    }
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

    /// The parts of the sum with one component more; the sum is as before.
    fn with<'s>(
        &self,
        session: &'s Session,
        component: &ClearKey,
        home: &Home,
    ) -> Result<Vec<Ephemeral<'s>>, HsmError> {
        match self.way {
            CombiningWay::KeyWrap => key_wrap::add(session, &self.parts, component, home),
            CombiningWay::Xor => xor::add(session, &self.parts, component, home),
        }
    }

    /// Adds a component to a sum that lives in its session.
    fn add(&mut self, session: &Session, component: &ClearKey) -> Result<(), HsmError> {
        let parts = self.with(session, component, &Home::Session)?;
        self.replace(session, parts.into_iter().map(Ephemeral::keep).collect());
        Ok(())
    }

    /// Takes other parts, and destroys those so far.
    fn replace(&mut self, session: &Session, parts: Vec<ObjectHandle>) {
        self.destroy(session);
        self.parts = parts;
    }

    fn destroy(&mut self, session: &Session) {
        for part in self.parts.drain(..) {
            drop(Ephemeral::new(session, part));
        }
    }

    /// The check value of the sum, of a key that can do nothing else.
    fn check_value(&self, session: &Session, len: usize) -> Result<Kcv, HsmError> {
        let template = check_value::template(self.kind);
        let check = self.make(session, template, Lives::InSession, &[])?;
        check_value::of(&check, session, self.kind, len)
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

    /// Each piece of the sum, encrypted alone under a key that is thrown away.
    fn veiled_pieces(&self, session: &Session) -> Result<Vec<Vec<u8>>, HsmError> {
        match self.way {
            CombiningWay::KeyWrap => key_wrap::veiled_pieces(session, &self.parts),
            CombiningWay::Xor => xor::veiled_pieces(session, &self.parts, self.kind),
        }
    }
}

/// The check value of a component by itself.
fn component_kcv(session: &Session, component: &ClearKey, kind: KeyKind) -> Result<Kcv, HsmError> {
    let mut template = check_value::template(kind).attributes_with_class(Lives::InSession);
    template.push(Attribute::KeyType(key_type(kind)));
    let template = SecretTemplate::new(template, component.expose_clear());
    let key = session
        .create_object(template.as_slice())
        .during("import a component")?;
    check_value::of(&Ephemeral::new(session, key), session, kind, Kcv::LEN)
}
