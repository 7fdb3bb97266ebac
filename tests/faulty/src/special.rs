//! The functions that are not just forwarded, once they are through the gate. Each stands for the
//! function of the table that names it, and wants what that wants.

use std::ptr;

use cryptoki_sys::{
    CK_BBOOL, CK_C_INITIALIZE_ARGS, CK_FALSE, CK_FLAGS, CK_FUNCTION_LIST_PTR_PTR, CK_NOTIFY, CK_RV,
    CK_SESSION_HANDLE, CK_SESSION_HANDLE_PTR, CK_SLOT_ID, CK_SLOT_ID_PTR, CK_SLOT_INFO_PTR,
    CK_TOKEN_INFO, CK_TOKEN_INFO_PTR, CK_ULONG, CK_ULONG_PTR, CK_USER_TYPE, CK_UTF8CHAR_PTR,
    CK_VOID_PTR, CKF_TOKEN_PRESENT, CKF_USER_PIN_INITIALIZED, CKR_ARGUMENTS_BAD,
    CKR_BUFFER_TOO_SMALL, CKR_DEVICE_ERROR, CKR_FUNCTION_NOT_SUPPORTED, CKR_GENERAL_ERROR, CKR_OK,
    CKU_SO,
};

use crate::{
    faulty::{FAULTY, complain},
    functions::LIST,
    nss::{Label, nss},
    real::Real,
};

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

    let Some(nss) = nss() else {
        return call!(real.C_Initialize(arguments));
    };
    let Some(parameters) = nss.parameters() else {
        return CKR_ARGUMENTS_BAD;
    };
    // SAFETY: the caller's promise: none, or arguments of this form.
    let standard = unsafe { arguments.cast::<CK_C_INITIALIZE_ARGS>().as_ref() };
    let mut arguments = Arguments {
        standard: standard.copied().unwrap_or_default(),
        behind: ptr::null_mut(),
    };
    // It keeps nothing of its arguments.
    arguments.standard.pReserved = parameters.as_ptr().cast_mut().cast();
    call!(real.C_Initialize((&raw mut arguments).cast()))
}

pub(crate) unsafe fn token_info(real: &Real, slot: CK_SLOT_ID, info: CK_TOKEN_INFO_PTR) -> CK_RV {
    let code = call!(real.C_GetTokenInfo(slot, info));
    // SAFETY: the caller's promise.
    let info = unsafe { info.as_mut() };
    if let (CKR_OK, Some(info), Some(nss)) = (code, info, nss()) {
        nss.name(slot, info);
    }
    code
}

pub(crate) unsafe fn init_token(
    real: &Real,
    slot: CK_SLOT_ID,
    pin: CK_UTF8CHAR_PTR,
    pin_len: CK_ULONG,
    label: CK_UTF8CHAR_PTR,
) -> CK_RV {
    let Some(nss) = nss() else {
        return call!(real.C_InitToken(slot, pin, pin_len, label));
    };
    // SAFETY: PKCS#11 has labels of this length.
    let Some(label) = (unsafe { label.cast::<Label>().as_ref() }) else {
        return CKR_ARGUMENTS_BAD;
    };
    let code = call!(real.C_InitToken(slot, ptr::null_mut(), 0, ptr::null_mut()));
    if code == CKR_OK && !nss.rename(slot, label) {
        return CKR_DEVICE_ERROR;
    }
    code
}

/// The security officer of an NSS token has no PIN before the user has one, and nothing to do afterwards.
pub(crate) unsafe fn login(
    real: &Real,
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: CK_UTF8CHAR_PTR,
    pin_len: CK_ULONG,
) -> CK_RV {
    let slot = FAULTY.tokens().slot_of(session);
    if let (CKU_SO, Some(_), Some(slot)) = (user, nss(), slot) {
        let mut info = CK_TOKEN_INFO::default();
        let code = call!(real.C_GetTokenInfo(slot, &raw mut info));
        if code == CKR_OK && info.flags & CKF_USER_PIN_INITIALIZED == 0 {
            return call!(real.C_Login(session, user, ptr::null_mut(), 0));
        }
    }
    call!(real.C_Login(session, user, pin, pin_len))
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
