//! Keys that an act was making when the program was killed. The token has a note of each from before it is made until
//! the act is on the record; the same plan, when it is started again, destroys what a note is of and begins anew.

use crate::{HsmError, KeyName, SumId, Token};

/// What labels of the notes begin with.
const RECORD_PREFIX: &str = "making.";

fn record_label(key: &KeyName) -> String {
    format!("{RECORD_PREFIX}{}", key.label())
}

/// The plan and its act.
fn content(act: &SumId) -> Vec<u8> {
    [&act.plan()[..], &act.act().to_be_bytes()].concat()
}

impl Token {
    /// Notes that an act is about to make a key. Says whether the token keeps the note: there are modules that keep
    /// no data, with which people have to look for such a key themselves.
    ///
    /// # Errors
    /// The token refuses.
    pub fn note_unfinished(&self, key: &KeyName, act: &SumId) -> Result<bool, HsmError> {
        if self.keeps_records()?.is_err() {
            return Ok(false);
        }
        self.store_record(&record_label(key), &content(act))?;
        Ok(true)
    }

    /// Whether this act of this plan was making the key, and did not come to its end.
    ///
    /// # Errors
    /// The token does not answer.
    pub fn is_unfinished(&self, key: &KeyName, act: &SumId) -> Result<bool, HsmError> {
        let note = self.load_record(&record_label(key))?;
        Ok(note.is_some_and(|note| note == content(act)))
    }

    /// Destroys the note of whatever act: it is on the record, or what it made is gone, or the key of this name is
    /// none of its.
    ///
    /// # Errors
    /// The token refuses.
    pub fn forget_unfinished(&self, key: &KeyName) -> Result<(), HsmError> {
        self.destroy_record(&record_label(key))
    }
}
