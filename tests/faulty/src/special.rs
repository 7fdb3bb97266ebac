//! The functions that are not just forwarded, once they are through the gate. Each stands for the
//! function of the table that names it, and wants what that wants.

use std::{env, ffi::CString, os::unix::ffi::OsStringExt, ptr};

use cryptoki_sys::{
    CK_BBOOL, CK_C_INITIALIZE_ARGS, CK_FALSE, CK_FLAGS, CK_FUNCTION_LIST_PTR_PTR, CK_NOTIFY, CK_RV,
    CK_SESSION_HANDLE, CK_SESSION_HANDLE_PTR, CK_SLOT_ID, CK_SLOT_ID_PTR, CK_SLOT_INFO_PTR,
    CK_ULONG, CK_ULONG_PTR, CK_VOID_PTR, CKF_TOKEN_PRESENT, CKR_ARGUMENTS_BAD,
    CKR_BUFFER_TOO_SMALL, CKR_FUNCTION_NOT_SUPPORTED, CKR_GENERAL_ERROR, CKR_OK,
};

use crate::{
    faulty::{FAULTY, complain},
    functions::LIST,
    real::Real,
};

/// What `pReserved` is to be.
const INITIALIZE: &str = "FAULTY_INITIALIZE";

/// Calls the real module's function.
macro_rules! call {
    ($real:ident.$name:ident($($argument:expr),*)) => {
        match $real.functions().$name {
            // SAFETY: what the caller of this module promises of its arguments.
            Some(function) => unsafe { function($($argument),*) },
            None => CKR_FUNCTION_NOT_SUPPORTED,
        }
    };
}

pub(crate) unsafe fn function_list(_real: &Real, list: CK_FUNCTION_LIST_PTR_PTR) -> CK_RV {
    // SAFETY: the caller's promise.
    let Some(list) = (unsafe { list.as_mut() }) else {
        return CKR_ARGUMENTS_BAD;
    };
    // Nobody writes to it: PKCS#11 has no const.
    *list = (&raw const LIST).cast_mut();
    CKR_OK
}

pub(crate) unsafe fn initialize(real: &Real, arguments: CK_VOID_PTR) -> CK_RV {
    // SAFETY: the caller's arguments.
    let code = FAULTY.while_undisturbed(|| unsafe { initialize_real(real, arguments) });
    if code != CKR_OK {
        return code;
    }
    if let Err(error) = FAULTY.start(real) {
        complain(&error);
        call!(real.C_Finalize(ptr::null_mut()));
        return CKR_GENERAL_ERROR;
    }
    CKR_OK
}

unsafe fn initialize_real(real: &Real, arguments: CK_VOID_PTR) -> CK_RV {
    /// NSS has its parameters where PKCS#11 has `pReserved`, and looks for that behind them.
    #[repr(C)]
    struct Arguments {
        standard: CK_C_INITIALIZE_ARGS,
        behind: CK_VOID_PTR,
    }

    let Some(text) = env::var_os(INITIALIZE) else {
        return call!(real.C_Initialize(arguments));
    };
    let Ok(text) = CString::new(text.into_vec()) else {
        return CKR_ARGUMENTS_BAD;
    };
    // SAFETY: the caller's promise: none, or arguments of this form.
    let standard = unsafe { arguments.cast::<CK_C_INITIALIZE_ARGS>().as_ref() };
    let mut arguments = Arguments {
        standard: standard.copied().unwrap_or_default(),
        behind: ptr::null_mut(),
    };
    let text = text.into_raw();
    arguments.standard.pReserved = text.cast();
    let code = call!(real.C_Initialize((&raw mut arguments).cast()));
    // SAFETY: it came from a CString, and C_Initialize keeps nothing of its arguments.
    drop(unsafe { CString::from_raw(text) });
    code
}

pub(crate) unsafe fn finalize(real: &Real, reserved: CK_VOID_PTR) -> CK_RV {
    let code = call!(real.C_Finalize(reserved));
    if code == CKR_OK {
        FAULTY.tokens().finalized();
        FAULTY.stop();
    }
    code
}

/// Without the slots of removed tokens, if it is to be those with tokens.
pub(crate) unsafe fn slot_list(
    real: &Real,
    token_present: CK_BBOOL,
    slots: CK_SLOT_ID_PTR,
    count: CK_ULONG_PTR,
) -> CK_RV {
    let as_it_is = token_present == CK_FALSE || FAULTY.tokens().are_all_there();
    // The number is asked for in any case: some modules look for new tokens then.
    if as_it_is || slots.is_null() {
        let code = call!(real.C_GetSlotList(token_present, slots, count));
        if as_it_is || code != CKR_OK {
            return code;
        }
    }
    let mut present = match real.slots() {
        Ok(present) => present,
        Err(code) => return code,
    };
    present.retain(|slot| !FAULTY.tokens().is_removed(*slot));
    // SAFETY: the caller's promise.
    let Some(count) = (unsafe { count.as_mut() }) else {
        return CKR_ARGUMENTS_BAD;
    };
    let room = *count;
    *count = present.len() as CK_ULONG;
    if slots.is_null() {
        return CKR_OK;
    }
    if room < *count {
        return CKR_BUFFER_TOO_SMALL;
    }
    // SAFETY: the caller promises room for as many as `count` said.
    unsafe { ptr::copy_nonoverlapping(present.as_ptr(), slots, present.len()) };
    CKR_OK
}

pub(crate) unsafe fn slot_info(real: &Real, slot: CK_SLOT_ID, info: CK_SLOT_INFO_PTR) -> CK_RV {
    let code = call!(real.C_GetSlotInfo(slot, info));
    // SAFETY: the caller's promise.
    let info = unsafe { info.as_mut() };
    if let (CKR_OK, Some(info), true) = (code, info, FAULTY.tokens().is_removed(slot)) {
        info.flags &= !CKF_TOKEN_PRESENT;
    }
    code
}

pub(crate) unsafe fn open_session(
    real: &Real,
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    application: CK_VOID_PTR,
    notify: CK_NOTIFY,
    session: CK_SESSION_HANDLE_PTR,
) -> CK_RV {
    let code = call!(real.C_OpenSession(slot, flags, application, notify, session));
    // SAFETY: the caller's promise.
    let session = unsafe { session.as_ref() };
    if let (CKR_OK, Some(session)) = (code, session) {
        FAULTY.tokens().opened(*session, slot);
    }
    code
}

pub(crate) unsafe fn close_session(real: &Real, session: CK_SESSION_HANDLE) -> CK_RV {
    let code = call!(real.C_CloseSession(session));
    if code == CKR_OK {
        FAULTY.tokens().closed(session);
    }
    code
}

pub(crate) unsafe fn close_all_sessions(real: &Real, slot: CK_SLOT_ID) -> CK_RV {
    let code = call!(real.C_CloseAllSessions(slot));
    if code == CKR_OK {
        FAULTY.tokens().closed_all(slot);
    }
    code
}
