//! In which forms a module can export, found out with keys that everybody knows: what AES key wrap makes of them is
//! known, and a key block that was made has to open as those do that other programs make.

use tr34::Kbh;

use super::{ExportForm, key_block, key_wrap};
use crate::{
    HsmError, Missing, SealingWay,
    import::trial::{self as imports, KIND, failed, known},
    self_test::{attempt, create},
    template::{EXPORT_ZMK, KEY_BLOCK_PROTECTION_KEY, TRANSPORT_KEY},
    worker::Worker,
};

/// The key that is exported: RFC 3394's.
const KN: &str = "00112233445566778899aabbccddeeff";

const HEADER: &[u8; 16] = b"D0000K0AB00E0000";

/// Of each form, whether the module can do it, or what it lacks.
pub(crate) struct Exports([(ExportForm, Result<(), Missing>, Vec<&'static str>); 2]);

/// Finds it out.
///
/// # Errors
/// The HSM is unavailable, which says nothing of what it can do.
pub(crate) fn exports(worker: &Worker) -> Result<Exports, HsmError> {
    let try_form = |form: ExportForm| {
        let lists: &[_] = match form {
            ExportForm::KeyWrap => &[key_wrap::MECHANISM],
            ExportForm::Tr31 => &key_block::MECHANISMS,
        };
        let lacking = worker.place.lacks(lists);
        let outcome = attempt(form, form, &lacking, || match form {
            ExportForm::KeyWrap => wrap(worker),
            ExportForm::Tr31 => make_block(worker),
        })?;
        let names = if lacking.is_empty() {
            lists.iter().map(|(_, name)| *name).collect()
        } else {
            lacking
        };
        let outcome = outcome.map_err(|why_not| Missing(vec![why_not]));
        Ok::<_, HsmError>((form, outcome, names))
    };
    Ok(Exports([
        try_form(ExportForm::KeyWrap)?,
        try_form(ExportForm::Tr31)?,
    ]))
}

impl Exports {
    /// Refuses a form that the module cannot do inside.
    pub(crate) fn require(&self, form: ExportForm) -> Result<(), HsmError> {
        let mut forms = self.0.iter();
        match forms.find(|(tried, ..)| *tried == form) {
            Some((_, Err(_), missing)) => Err(HsmError::Unsupported {
                operation: format!("exporting a key by {form} inside"),
                missing: missing.clone(),
            }),
            _ => Ok(()),
        }
    }

    /// Each form, with what is lacking for it.
    pub(crate) fn forms(&self) -> Vec<(ExportForm, Result<(), Missing>)> {
        let forms = self.0.iter();
        forms
            .map(|(form, outcome, _)| (*form, outcome.clone()))
            .collect()
    }
}

fn wrap(worker: &Worker) -> Result<(), HsmError> {
    let session = &worker.session;
    let over = known(imports::OVER)?;
    let zmk = create(
        session,
        imports::OVER_KIND,
        &EXPORT_ZMK,
        SealingWay::Splice,
        &over,
    )?;
    let kn = create(
        session,
        KIND,
        &TRANSPORT_KEY,
        SealingWay::Splice,
        &known(KN)?,
    )?;
    let wrapped = key_wrap::wrap(session, zmk.handle(), kn.handle(), KIND)?;
    if wrapped == known(imports::WRAPPED)? {
        return Ok(());
    }
    Err(failed(
        "a known key was wrapped otherwise than by others".to_owned(),
    ))
}

fn make_block(worker: &Worker) -> Result<(), HsmError> {
    let session = &worker.session;
    let (template, value) = (&KEY_BLOCK_PROTECTION_KEY, known(imports::KBPK)?);
    let kbpk = create(session, KIND, template, SealingWay::Splice, &value)?;
    let (template, value) = (&TRANSPORT_KEY, known(KN)?);
    let kn = create(session, KIND, template, SealingWay::Concatenate, &value)?;
    let header = Kbh::parse(HEADER).map_err(|error| failed(error.to_string()))?;
    let (under, key) = ((kbpk.handle(), KIND), (kn.handle(), KIND));
    let block = key_block::make(session, under, key, &header, &[])?;

    // As a block that arrives, which is known to be opened rightly: by one that psec made.
    imports::key_block(worker)?;
    let opened = imports::open(worker, kbpk.handle(), &block)?;
    imports::require_key(worker, &opened, imports::WRAPPED_KCV)
}
