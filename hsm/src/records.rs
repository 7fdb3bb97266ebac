//! Records: small data objects in the token, private to its user. A terminal's memory; custody and partial sums of
//! ceremonies.
//!
//! A record is replaced by a newer one and not changed in place, which PKCS#11 does not promise to
//! be atomic. Each carries a number in front of its content, and the highest number is the record.

use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};

use crate::{HsmError, Missing, error::CallResult, session::Session};

/// `CKA_APPLICATION` of the records; data objects of others are left alone.
const APPLICATION: &[u8] = b"kdh-record";

/// Bytes of the number.
const NUMBER_LEN: usize = 8;

struct Record {
    object: ObjectHandle,
    number: u64,
    content: Vec<u8>,
}

pub(crate) fn load(session: &Session, label: &str) -> Result<Option<Vec<u8>>, HsmError> {
    Ok(newest(find(session, label)?).map(|record| record.content))
}

pub(crate) fn store(session: &Session, label: &str, content: &[u8]) -> Result<(), HsmError> {
    let operation = "store a record";
    let old = find(session, label)?;
    let number = old.iter().map(|record| record.number).max().unwrap_or(0) + 1;
    let mut template = template(label);
    template.push(Attribute::Value(
        [&number.to_be_bytes()[..], content].concat(),
    ));
    session
        .create_object(&template)
        .with_key(operation, label)?;
    for record in old {
        session
            .destroy_object(record.object)
            .with_key(operation, label)?;
    }
    Ok(())
}

/// Whether the token keeps records: by one that is written, read and destroyed.
///
/// # Errors
/// The HSM is unavailable.
pub(crate) fn trial(session: &Session) -> Result<Result<(), Missing>, HsmError> {
    const LABEL: &str = "trial";
    let kept = store(session, LABEL, LABEL.as_bytes())
        .and_then(|()| load(session, LABEL))
        .and_then(|read| destroy(session, LABEL).map(|()| read));
    match kept {
        Ok(Some(read)) if read == LABEL.as_bytes() => Ok(Ok(())),
        Ok(_) => Ok(Err(Missing(vec!["a record was not kept".to_owned()]))),
        Err(error) if error.is_retryable() => Err(error),
        Err(error) => Ok(Err(Missing(vec![error.to_string()]))),
    }
}

pub(crate) fn list(session: &Session, prefix: &str) -> Result<Vec<String>, HsmError> {
    let operation = "list the records";
    let mut labels = Vec::new();
    for object in session.find_objects(&any()).during(operation)? {
        let attributes = session
            .get_attributes(object, &[AttributeType::Label])
            .during(operation)?;
        for attribute in attributes {
            if let Attribute::Label(label) = attribute {
                labels.push(String::from_utf8_lossy(&label).into_owned());
            }
        }
    }
    labels.retain(|label| label.starts_with(prefix));
    labels.sort();
    labels.dedup();
    Ok(labels)
}

pub(crate) fn destroy(session: &Session, label: &str) -> Result<(), HsmError> {
    let operation = "destroy a record";
    let mut records = find(session, label)?;
    // The oldest first: a crash on the way does not bring an older one back.
    records.sort_by_key(|record| record.number);
    for record in records {
        session
            .destroy_object(record.object)
            .with_key(operation, label)?;
    }
    Ok(())
}

fn any() -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Application(APPLICATION.into()),
    ]
}

fn template(label: &str) -> Vec<Attribute> {
    let mut template = any();
    template.push(Attribute::Label(label.into()));
    template
}

fn newest(records: Vec<Record>) -> Option<Record> {
    records.into_iter().max_by_key(|record| record.number)
}

fn find(session: &Session, label: &str) -> Result<Vec<Record>, HsmError> {
    let operation = "load a record";
    let objects = session
        .find_objects(&template(label))
        .with_key(operation, label)?;
    let mut records = Vec::with_capacity(objects.len());
    for object in objects {
        let attributes = session
            .get_attributes(object, &[AttributeType::Value])
            .with_key(operation, label)?;
        let Some((number, content)) = attributes.first().and_then(parse) else {
            return Err(HsmError::BadAnswer {
                operation,
                what: format!("{label} without a number"),
            });
        };
        records.push(Record {
            object,
            number,
            content,
        });
    }
    Ok(records)
}

fn parse(value: &Attribute) -> Option<(u64, Vec<u8>)> {
    let Attribute::Value(value) = value else {
        return None;
    };
    let (number, content) = value.split_first_chunk::<NUMBER_LEN>()?;
    Some((u64::from_be_bytes(*number), content.to_vec()))
}
