//! A session with a token: the calls that are made of one here, each counted where somebody counts.
//!
//! Nothing goes to the module past this, so that what a ceremony writes down is all that was done.

use std::num::NonZeroUsize;

use cryptoki::{
    context::Function,
    error::Result,
    mechanism::Mechanism,
    object::{Attribute, AttributeInfo, AttributeType, ObjectHandle},
    session::{Session as Inner, SessionInfo, UserType},
    types::AuthPin,
};

use crate::Operations;

/// A session. Calls are cryptoki's, by the same names.
pub(crate) struct Session {
    inner: Inner,
    operations: Option<Operations>,
}

impl Session {
    pub(crate) fn new(inner: Inner, operations: Option<Operations>) -> Self {
        let session = Self { inner, operations };
        session.count(Function::OpenSession);
        session
    }

    pub(crate) fn login(&self, user: UserType, pin: Option<&AuthPin>) -> Result<()> {
        self.count(Function::Login);
        self.inner.login(user, pin)
    }

    pub(crate) fn logout(&self) -> Result<()> {
        self.count(Function::Logout);
        self.inner.logout()
    }

    pub(crate) fn init_pin(&self, pin: &AuthPin) -> Result<()> {
        self.count(Function::InitPIN);
        self.inner.init_pin(pin)
    }

    pub(crate) fn get_session_info(&self) -> Result<SessionInfo> {
        self.count(Function::GetSessionInfo);
        self.inner.get_session_info()
    }

    pub(crate) fn find_objects(&self, template: &[Attribute]) -> Result<Vec<ObjectHandle>> {
        self.count(Function::FindObjects);
        self.inner.find_objects(template)
    }

    /// The first objects that fit, as many as this at most.
    pub(crate) fn find_first_objects(
        &self,
        template: &[Attribute],
        most: NonZeroUsize,
    ) -> Result<Vec<ObjectHandle>> {
        self.count(Function::FindObjects);
        let objects = self.inner.iter_objects_with_cache_size(template, most)?;
        objects.take(most.get()).collect()
    }

    pub(crate) fn get_attributes(
        &self,
        object: ObjectHandle,
        types: &[AttributeType],
    ) -> Result<Vec<Attribute>> {
        self.count(Function::GetAttributeValue);
        self.inner.get_attributes(object, types)
    }

    pub(crate) fn get_attribute_info(
        &self,
        object: ObjectHandle,
        types: &[AttributeType],
    ) -> Result<Vec<AttributeInfo>> {
        self.count(Function::GetAttributeValue);
        self.inner.get_attribute_info(object, types)
    }

    pub(crate) fn update_attributes(
        &self,
        object: ObjectHandle,
        template: &[Attribute],
    ) -> Result<()> {
        self.count(Function::SetAttributeValue);
        self.inner.update_attributes(object, template)
    }

    pub(crate) fn create_object(&self, template: &[Attribute]) -> Result<ObjectHandle> {
        self.count(Function::CreateObject);
        self.inner.create_object(template)
    }

    pub(crate) fn copy_object(
        &self,
        object: ObjectHandle,
        template: &[Attribute],
    ) -> Result<ObjectHandle> {
        self.count(Function::CopyObject);
        self.inner.copy_object(object, template)
    }

    pub(crate) fn destroy_object(&self, object: ObjectHandle) -> Result<()> {
        self.count(Function::DestroyObject);
        self.inner.destroy_object(object)
    }

    pub(crate) fn generate_key(
        &self,
        mechanism: &Mechanism<'_>,
        template: &[Attribute],
    ) -> Result<ObjectHandle> {
        self.count_with(Function::GenerateKey, mechanism);
        self.inner.generate_key(mechanism, template)
    }

    pub(crate) fn generate_key_pair(
        &self,
        mechanism: &Mechanism<'_>,
        public: &[Attribute],
        private: &[Attribute],
    ) -> Result<(ObjectHandle, ObjectHandle)> {
        self.count_with(Function::GenerateKeyPair, mechanism);
        self.inner.generate_key_pair(mechanism, public, private)
    }

    pub(crate) fn derive_key(
        &self,
        mechanism: &Mechanism<'_>,
        base: ObjectHandle,
        template: &[Attribute],
    ) -> Result<ObjectHandle> {
        self.count_with(Function::DeriveKey, mechanism);
        self.inner.derive_key(mechanism, base, template)
    }

    pub(crate) fn wrap_key(
        &self,
        mechanism: &Mechanism<'_>,
        wrapping: ObjectHandle,
        key: ObjectHandle,
    ) -> Result<Vec<u8>> {
        self.count_with(Function::WrapKey, mechanism);
        self.inner.wrap_key(mechanism, wrapping, key)
    }

    pub(crate) fn unwrap_key(
        &self,
        mechanism: &Mechanism<'_>,
        unwrapping: ObjectHandle,
        wrapped: &[u8],
        template: &[Attribute],
    ) -> Result<ObjectHandle> {
        self.count_with(Function::UnwrapKey, mechanism);
        self.inner
            .unwrap_key(mechanism, unwrapping, wrapped, template)
    }

    pub(crate) fn encrypt(
        &self,
        mechanism: &Mechanism<'_>,
        key: ObjectHandle,
        data: &[u8],
    ) -> Result<Vec<u8>> {
        self.count_with(Function::Encrypt, mechanism);
        self.inner.encrypt(mechanism, key, data)
    }

    pub(crate) fn decrypt(
        &self,
        mechanism: &Mechanism<'_>,
        key: ObjectHandle,
        data: &[u8],
    ) -> Result<Vec<u8>> {
        self.count_with(Function::Decrypt, mechanism);
        self.inner.decrypt(mechanism, key, data)
    }

    pub(crate) fn sign(
        &self,
        mechanism: &Mechanism<'_>,
        key: ObjectHandle,
        data: &[u8],
    ) -> Result<Vec<u8>> {
        self.count_with(Function::Sign, mechanism);
        self.inner.sign(mechanism, key, data)
    }

    pub(crate) fn generate_random_slice(&self, bytes: &mut [u8]) -> Result<()> {
        self.count(Function::GenerateRandom);
        self.inner.generate_random_slice(bytes)
    }

    fn count(&self, function: Function) {
        if let Some(operations) = &self.operations {
            operations.add(function, None);
        }
    }

    fn count_with(&self, function: Function, mechanism: &Mechanism<'_>) {
        if let Some(operations) = &self.operations {
            operations.add(function, Some(mechanism.mechanism_type()));
        }
    }
}
