//! What terminals state and sign.

use kdh_proto::{
    BINDING_CONTEXT, RECEIPT_CONTEXT, Reason,
    v1::{BindingStatement, Receipt, ReceiptStatement},
};
use prost::Message;

use crate::{HostError, binding::AuthenticatedDevice, error::refused};

/// A statement of a kind that its context names.
pub(crate) trait Statement: Message + Default {
    /// The only context that is accepted.
    const CONTEXT: &'static str;

    fn context(&self) -> &str;

    fn serial_number(&self) -> &str;
}

impl Statement for ReceiptStatement {
    const CONTEXT: &'static str = RECEIPT_CONTEXT;

    fn context(&self) -> &str {
        &self.context
    }

    fn serial_number(&self) -> &str {
        &self.serial_number
    }
}

impl Statement for BindingStatement {
    const CONTEXT: &'static str = BINDING_CONTEXT;

    fn context(&self) -> &str {
        &self.context
    }

    fn serial_number(&self) -> &str {
        &self.serial_number
    }
}

/// A statement whose signature is the device's, over the bytes that were received.
pub(crate) struct SignedStatement<S>(S);

impl<S: Statement> SignedStatement<S> {
    /// Verifies a receipt.
    ///
    /// # Errors
    /// It is not signed by the device's authentication key, holds another kind of statement, or one about
    /// another device.
    pub(crate) fn verify(
        device: &AuthenticatedDevice,
        receipt: &Receipt,
    ) -> Result<Self, HostError> {
        let serial = device.serial();
        let invalid = |cause: &str| refused(Reason::ReceiptInvalid, format!("{serial}: {cause}"));
        device
            .credential()
            .public_key()
            .verify(&receipt.statement, &receipt.signature)
            .map_err(|_| invalid("the signature does not verify"))?;
        let statement = S::decode(&receipt.statement[..])
            .map_err(|_| invalid("the statement does not decode"))?;
        if statement.context() != S::CONTEXT {
            return Err(invalid("the statement is of another context"));
        }
        if statement.serial_number() != serial.as_str() {
            return Err(invalid("the statement is about another device"));
        }
        Ok(Self(statement))
    }

    /// What is stated.
    pub(crate) const fn statement(&self) -> &S {
        &self.0
    }
}
