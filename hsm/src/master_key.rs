//! How a key enters the token, from wherever it comes: first as a session object that can make its check
//! value and nothing else, and, when that is the announced one, as what it is for.

use cryptoki::object::Attribute;
use tr34::KeyKind;

use crate::{
    HsmError, Kcv, KeyName, KeyRole, SecretKey, check_value,
    inspect::{require_free, require_role},
    keys::may,
    limit,
    template::{Flag, Lives, Template},
    worker::{Ephemeral, Worker},
};

/// Makes a key of its name's role in the token, if its check value is `expected`. `make` brings it in by a
/// template, with more attributes; `derives` says whether a master key may be derived from, for a module that
/// seals that way.
///
/// # Errors
/// [`HsmError::KcvMismatch`]; the name is taken, or for keys that are made inside; `make`'s. Nothing is kept then.
pub(crate) fn enter<'s>(
    worker: &'s Worker,
    name: &KeyName,
    kind: KeyKind,
    expected: &Kcv,
    derives: bool,
    make: impl Fn(&Template, Lives, &[Attribute]) -> Result<Ephemeral<'s>, HsmError>,
) -> Result<SecretKey, HsmError> {
    let session = &worker.session;
    let role = KeyRole::of_secret(name);
    if role.is_made_inside() {
        let operation = "bringing a key in";
        return Err(HsmError::WrongRole { operation, role });
    }
    require_free(session, name)?;
    let len = expected.value().len();
    let check = make(check_value::template(kind), Lives::InSession, &[])?;
    require_kcv(expected, check_value::of(&check, session, kind, len)?)?;
    drop(check);

    let template = role.template();
    let mut attributes = vec![
        Attribute::Label(name.label().into()),
        Attribute::Id(name.id().to_vec()),
    ];
    if template.leaves_open(Flag::Derive) {
        attributes.push(Flag::Derive.set(derives));
    }
    let limit = limit::of_secret(template, kind, derives);
    let key = limit::make(session, &limit, |limit| {
        let attributes = [&attributes[..], limit.as_slice()].concat();
        make(template, Lives::InToken, &attributes)
    })?;
    require_role(session, key.handle(), role, name, &worker.place)?;
    limit::require(session, key.handle(), &limit, (name.label(), template))?;
    let found = check_value::of_copy(session, key.handle(), kind, len)?;
    require_kcv(expected, found)?;
    let may_derive = may(session, key.handle(), Flag::Derive, name)?;
    key.keep();
    Ok(SecretKey::new(name.clone(), role, kind, may_derive))
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
