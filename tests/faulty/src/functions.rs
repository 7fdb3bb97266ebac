//! The functions of PKCS#11 2.40: one table, from which come their names and a wrapper for each.

use cryptoki_sys::{
    CK_ATTRIBUTE_PTR, CK_BBOOL, CK_BYTE_PTR, CK_FLAGS, CK_FUNCTION_LIST, CK_FUNCTION_LIST_PTR_PTR,
    CK_INFO_PTR, CK_MECHANISM_INFO_PTR, CK_MECHANISM_PTR, CK_MECHANISM_TYPE, CK_MECHANISM_TYPE_PTR,
    CK_NOTIFY, CK_OBJECT_HANDLE, CK_OBJECT_HANDLE_PTR, CK_RV, CK_SESSION_HANDLE,
    CK_SESSION_HANDLE_PTR, CK_SESSION_INFO_PTR, CK_SLOT_ID, CK_SLOT_ID_PTR, CK_SLOT_INFO_PTR,
    CK_TOKEN_INFO_PTR, CK_ULONG, CK_ULONG_PTR, CK_USER_TYPE, CK_UTF8CHAR_PTR, CK_VERSION,
    CK_VOID_PTR, CKR_FUNCTION_NOT_SUPPORTED,
};

use crate::{faulty::FAULTY, special};

/// What a call is about, by its first argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Session(CK_SESSION_HANDLE),
    Slot(CK_SLOT_ID),
    Module,
}

/// A line of the table: what the first argument is, the function as PKCS#11 declares it, and what
/// stands for plain forwarding where that does not do.
macro_rules! functions {
    ($($subject:ident $name:ident($($argument:ident: $type:ty),+) $(=> $special:path)?;)+) => {
        /// A function of PKCS#11 2.40.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[expect(
            non_camel_case_types,
            clippy::enum_variant_names,
            reason = "the names are PKCS#11's"
        )]
        pub(crate) enum Function {
            $($name),+
        }

        impl Function {
            /// In the order of `CK_FUNCTION_LIST`, which is that of their numbers.
            pub(crate) const ALL: &[Self] = &[$(Self::$name),+];

            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name)),+
                }
            }
        }

        /// What callers get instead of the real module's.
        pub(crate) static LIST: CK_FUNCTION_LIST = CK_FUNCTION_LIST {
            version: CK_VERSION { major: 2, minor: 40 },
            $($name: Some(wrappers::$name)),+
        };

        #[expect(non_snake_case, reason = "the names are PKCS#11's")]
        pub(crate) mod wrappers {
            use super::*;

            $(
                pub(crate) unsafe extern "C" fn $name($($argument: $type),+) -> CK_RV {
                    FAULTY.pass(Function::$name, subject!($subject $($argument)+), |real| {
                        // SAFETY: the caller's arguments, as they are, to the function they are for.
                        unsafe { forward!(real $name($($argument),+) $($special)?) }
                    })
                }
            )+
        }
    };
}

macro_rules! subject {
    (session $session:ident $($rest:ident)*) => {
        Subject::Session($session)
    };
    (slot $slot:ident $($rest:ident)*) => {
        Subject::Slot($slot)
    };
    (module $($rest:ident)*) => {
        Subject::Module
    };
}

macro_rules! forward {
    ($real:ident $name:ident($($argument:ident),+) $special:path) => {
        $special($real, $($argument),+)
    };
    ($real:ident $name:ident($($argument:ident),+)) => {
        match $real.functions().$name {
            Some(function) => function($($argument),+),
            None => CKR_FUNCTION_NOT_SUPPORTED,
        }
    };
}

functions! {
    module C_Initialize(arguments: CK_VOID_PTR) => special::initialize;
    module C_Finalize(reserved: CK_VOID_PTR) => special::finalize;
    module C_GetInfo(info: CK_INFO_PTR);
    module C_GetFunctionList(list: CK_FUNCTION_LIST_PTR_PTR) => special::function_list;
    module C_GetSlotList(token_present: CK_BBOOL, slots: CK_SLOT_ID_PTR, count: CK_ULONG_PTR) => special::slot_list;
    slot C_GetSlotInfo(slot: CK_SLOT_ID, info: CK_SLOT_INFO_PTR) => special::slot_info;
    slot C_GetTokenInfo(slot: CK_SLOT_ID, info: CK_TOKEN_INFO_PTR) => special::token_info;
    slot C_GetMechanismList(slot: CK_SLOT_ID, mechanisms: CK_MECHANISM_TYPE_PTR, count: CK_ULONG_PTR);
    slot C_GetMechanismInfo(slot: CK_SLOT_ID, mechanism: CK_MECHANISM_TYPE, info: CK_MECHANISM_INFO_PTR);
    slot C_InitToken(slot: CK_SLOT_ID, pin: CK_UTF8CHAR_PTR, pin_len: CK_ULONG, label: CK_UTF8CHAR_PTR) => special::init_token;
    session C_InitPIN(session: CK_SESSION_HANDLE, pin: CK_UTF8CHAR_PTR, pin_len: CK_ULONG);
    session C_SetPIN(session: CK_SESSION_HANDLE, old: CK_UTF8CHAR_PTR, old_len: CK_ULONG, new: CK_UTF8CHAR_PTR, new_len: CK_ULONG);
    slot C_OpenSession(slot: CK_SLOT_ID, flags: CK_FLAGS, application: CK_VOID_PTR, notify: CK_NOTIFY, session: CK_SESSION_HANDLE_PTR) => special::open_session;
    session C_CloseSession(session: CK_SESSION_HANDLE) => special::close_session;
    slot C_CloseAllSessions(slot: CK_SLOT_ID) => special::close_all_sessions;
    session C_GetSessionInfo(session: CK_SESSION_HANDLE, info: CK_SESSION_INFO_PTR);
    session C_GetOperationState(session: CK_SESSION_HANDLE, state: CK_BYTE_PTR, state_len: CK_ULONG_PTR);
    session C_SetOperationState(session: CK_SESSION_HANDLE, state: CK_BYTE_PTR, state_len: CK_ULONG, encryption_key: CK_OBJECT_HANDLE, authentication_key: CK_OBJECT_HANDLE);
    session C_Login(session: CK_SESSION_HANDLE, user: CK_USER_TYPE, pin: CK_UTF8CHAR_PTR, pin_len: CK_ULONG) => special::login;
    session C_Logout(session: CK_SESSION_HANDLE);
    session C_CreateObject(session: CK_SESSION_HANDLE, template: CK_ATTRIBUTE_PTR, count: CK_ULONG, object: CK_OBJECT_HANDLE_PTR);
    session C_CopyObject(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE, template: CK_ATTRIBUTE_PTR, count: CK_ULONG, copy: CK_OBJECT_HANDLE_PTR);
    session C_DestroyObject(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE);
    session C_GetObjectSize(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE, size: CK_ULONG_PTR);
    session C_GetAttributeValue(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE, template: CK_ATTRIBUTE_PTR, count: CK_ULONG);
    session C_SetAttributeValue(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE, template: CK_ATTRIBUTE_PTR, count: CK_ULONG);
    session C_FindObjectsInit(session: CK_SESSION_HANDLE, template: CK_ATTRIBUTE_PTR, count: CK_ULONG);
    session C_FindObjects(session: CK_SESSION_HANDLE, objects: CK_OBJECT_HANDLE_PTR, room: CK_ULONG, count: CK_ULONG_PTR);
    session C_FindObjectsFinal(session: CK_SESSION_HANDLE);
    session C_EncryptInit(session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_PTR, key: CK_OBJECT_HANDLE);
    session C_Encrypt(session: CK_SESSION_HANDLE, input: CK_BYTE_PTR, input_len: CK_ULONG, output: CK_BYTE_PTR, output_len: CK_ULONG_PTR);
    session C_EncryptUpdate(session: CK_SESSION_HANDLE, input: CK_BYTE_PTR, input_len: CK_ULONG, output: CK_BYTE_PTR, output_len: CK_ULONG_PTR);
    session C_EncryptFinal(session: CK_SESSION_HANDLE, output: CK_BYTE_PTR, output_len: CK_ULONG_PTR);
    session C_DecryptInit(session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_PTR, key: CK_OBJECT_HANDLE);
    session C_Decrypt(session: CK_SESSION_HANDLE, input: CK_BYTE_PTR, input_len: CK_ULONG, output: CK_BYTE_PTR, output_len: CK_ULONG_PTR);
    session C_DecryptUpdate(session: CK_SESSION_HANDLE, input: CK_BYTE_PTR, input_len: CK_ULONG, output: CK_BYTE_PTR, output_len: CK_ULONG_PTR);
    session C_DecryptFinal(session: CK_SESSION_HANDLE, output: CK_BYTE_PTR, output_len: CK_ULONG_PTR);
    session C_DigestInit(session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_PTR);
    session C_Digest(session: CK_SESSION_HANDLE, input: CK_BYTE_PTR, input_len: CK_ULONG, output: CK_BYTE_PTR, output_len: CK_ULONG_PTR);
    session C_DigestUpdate(session: CK_SESSION_HANDLE, input: CK_BYTE_PTR, input_len: CK_ULONG);
    session C_DigestKey(session: CK_SESSION_HANDLE, key: CK_OBJECT_HANDLE);
    session C_DigestFinal(session: CK_SESSION_HANDLE, output: CK_BYTE_PTR, output_len: CK_ULONG_PTR);
    session C_SignInit(session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_PTR, key: CK_OBJECT_HANDLE);
    session C_Sign(session: CK_SESSION_HANDLE, input: CK_BYTE_PTR, input_len: CK_ULONG, output: CK_BYTE_PTR, output_len: CK_ULONG_PTR);
    session C_SignUpdate(session: CK_SESSION_HANDLE, input: CK_BYTE_PTR, input_len: CK_ULONG);
    session C_SignFinal(session: CK_SESSION_HANDLE, output: CK_BYTE_PTR, output_len: CK_ULONG_PTR);
    session C_SignRecoverInit(session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_PTR, key: CK_OBJECT_HANDLE);
    session C_SignRecover(session: CK_SESSION_HANDLE, input: CK_BYTE_PTR, input_len: CK_ULONG, output: CK_BYTE_PTR, output_len: CK_ULONG_PTR);
    session C_VerifyInit(session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_PTR, key: CK_OBJECT_HANDLE);
    session C_Verify(session: CK_SESSION_HANDLE, input: CK_BYTE_PTR, input_len: CK_ULONG, signature: CK_BYTE_PTR, signature_len: CK_ULONG);
    session C_VerifyUpdate(session: CK_SESSION_HANDLE, input: CK_BYTE_PTR, input_len: CK_ULONG);
    session C_VerifyFinal(session: CK_SESSION_HANDLE, signature: CK_BYTE_PTR, signature_len: CK_ULONG);
    session C_VerifyRecoverInit(session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_PTR, key: CK_OBJECT_HANDLE);
    session C_VerifyRecover(session: CK_SESSION_HANDLE, signature: CK_BYTE_PTR, signature_len: CK_ULONG, output: CK_BYTE_PTR, output_len: CK_ULONG_PTR);
    session C_DigestEncryptUpdate(session: CK_SESSION_HANDLE, input: CK_BYTE_PTR, input_len: CK_ULONG, output: CK_BYTE_PTR, output_len: CK_ULONG_PTR);
    session C_DecryptDigestUpdate(session: CK_SESSION_HANDLE, input: CK_BYTE_PTR, input_len: CK_ULONG, output: CK_BYTE_PTR, output_len: CK_ULONG_PTR);
    session C_SignEncryptUpdate(session: CK_SESSION_HANDLE, input: CK_BYTE_PTR, input_len: CK_ULONG, output: CK_BYTE_PTR, output_len: CK_ULONG_PTR);
    session C_DecryptVerifyUpdate(session: CK_SESSION_HANDLE, input: CK_BYTE_PTR, input_len: CK_ULONG, output: CK_BYTE_PTR, output_len: CK_ULONG_PTR);
    session C_GenerateKey(session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_PTR, template: CK_ATTRIBUTE_PTR, count: CK_ULONG, key: CK_OBJECT_HANDLE_PTR);
    session C_GenerateKeyPair(session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_PTR, public_template: CK_ATTRIBUTE_PTR, public_count: CK_ULONG, private_template: CK_ATTRIBUTE_PTR, private_count: CK_ULONG, public_key: CK_OBJECT_HANDLE_PTR, private_key: CK_OBJECT_HANDLE_PTR);
    session C_WrapKey(session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_PTR, wrapping_key: CK_OBJECT_HANDLE, key: CK_OBJECT_HANDLE, output: CK_BYTE_PTR, output_len: CK_ULONG_PTR);
    session C_UnwrapKey(session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_PTR, unwrapping_key: CK_OBJECT_HANDLE, input: CK_BYTE_PTR, input_len: CK_ULONG, template: CK_ATTRIBUTE_PTR, count: CK_ULONG, key: CK_OBJECT_HANDLE_PTR);
    session C_DeriveKey(session: CK_SESSION_HANDLE, mechanism: CK_MECHANISM_PTR, base_key: CK_OBJECT_HANDLE, template: CK_ATTRIBUTE_PTR, count: CK_ULONG, key: CK_OBJECT_HANDLE_PTR);
    session C_SeedRandom(session: CK_SESSION_HANDLE, seed: CK_BYTE_PTR, seed_len: CK_ULONG);
    session C_GenerateRandom(session: CK_SESSION_HANDLE, output: CK_BYTE_PTR, output_len: CK_ULONG);
    session C_GetFunctionStatus(session: CK_SESSION_HANDLE);
    session C_CancelFunction(session: CK_SESSION_HANDLE);
    module C_WaitForSlotEvent(flags: CK_FLAGS, slot: CK_SLOT_ID_PTR, reserved: CK_VOID_PTR);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole_and_numbered_in_order() {
        assert_eq!(Function::ALL.len(), 68);
        for (number, function) in Function::ALL.iter().enumerate() {
            assert_eq!(*function as usize, number);
        }
        assert_eq!(Function::C_Sign.name(), "C_Sign");
    }
}
