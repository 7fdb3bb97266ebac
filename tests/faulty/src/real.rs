//! The module that calls are forwarded to, and what is asked of it on behalf of commands.

use std::{ffi::OsStr, mem, ptr};

use cryptoki_sys::{
    CK_FUNCTION_LIST, CK_RV, CK_SLOT_ID, CK_TOKEN_INFO, CK_TRUE, CK_ULONG, CKR_BUFFER_TOO_SMALL,
    CKR_FUNCTION_NOT_SUPPORTED, CKR_OK, Pkcs11,
};

use crate::nss::nss;

/// The real module, from its loading to the end of the process.
pub(crate) struct Real {
    functions: &'static CK_FUNCTION_LIST,
}

impl Real {
    /// # Errors
    /// It is no module.
    pub(crate) fn load(path: &OsStr) -> Result<Self, String> {
        // SAFETY: whoever names the module vouches for what it does when it is loaded.
        let library = unsafe { Pkcs11::new(path) }.map_err(|error| error.to_string())?;
        if library.C_GetFunctionList.is_err() {
            return Err("C_GetFunctionList is missing".to_owned());
        }
        let mut list = ptr::null_mut();
        // SAFETY: a place for a pointer, as the function wants it.
        let code = unsafe { library.C_GetFunctionList(&raw mut list) };
        if code != CKR_OK {
            return Err(format!("C_GetFunctionList: {code:#x}"));
        }
        // SAFETY: the list is the module's own, and stays as the module does.
        let functions = unsafe { list.as_ref() };
        // Never unloaded.
        mem::forget(library);
        let functions = functions.ok_or("C_GetFunctionList gives nothing")?;
        Ok(Self { functions })
    }

    pub(crate) const fn functions(&self) -> &'static CK_FUNCTION_LIST {
        self.functions
    }

    /// The slots with a token.
    ///
    /// # Errors
    /// The module's code.
    pub(crate) fn slots(&self) -> Result<Vec<CK_SLOT_ID>, CK_RV> {
        let list = self
            .functions
            .C_GetSlotList
            .ok_or(CKR_FUNCTION_NOT_SUPPORTED)?;
        // To ask for the number first would have a side effect: some modules make slots then.
        let mut slots: Vec<CK_SLOT_ID> = vec![0; 64];
        loop {
            let mut count = slots.len() as CK_ULONG;
            // SAFETY: there is room for as many as `count` says.
            match unsafe { list(CK_TRUE, slots.as_mut_ptr(), &raw mut count) } {
                CKR_OK => {
                    slots.truncate(usize::try_from(count).unwrap_or(usize::MAX));
                    return Ok(slots);
                }
                CKR_BUFFER_TOO_SMALL => slots.resize(slots.len() * 2, 0),
                code => return Err(code),
            }
        }
    }

    /// The slot of the one token with this label.
    ///
    /// # Errors
    /// There is not exactly one.
    pub(crate) fn slot_of(&self, label: &str) -> Result<CK_SLOT_ID, String> {
        let mut slots = self
            .slots()
            .map_err(|code| format!("C_GetSlotList: {code:#x}"))?;
        slots.retain(|slot| self.label(*slot).as_deref() == Some(label));
        match slots[..] {
            [slot] => Ok(slot),
            _ => Err(format!("{} tokens are called {label:?}", slots.len())),
        }
    }

    /// # Errors
    /// The module's code.
    pub(crate) fn close_all_sessions(&self, slot: CK_SLOT_ID) -> Result<(), String> {
        let close = self.functions.C_CloseAllSessions;
        // SAFETY: it takes a number, any.
        let code = close.map_or(CKR_FUNCTION_NOT_SUPPORTED, |close| unsafe { close(slot) });
        match code {
            CKR_OK => Ok(()),
            code => Err(format!("C_CloseAllSessions: {code:#x}")),
        }
    }

    /// None if there is no such token any more, or its label is none.
    fn label(&self, slot: CK_SLOT_ID) -> Option<String> {
        let token_info = self.functions.C_GetTokenInfo?;
        let mut info = CK_TOKEN_INFO::default();
        // SAFETY: a place for what it writes.
        let code = unsafe { token_info(slot, &raw mut info) };
        if let Some(nss) = nss() {
            nss.name(slot, &mut info);
        }
        let label = str::from_utf8(&info.label).ok()?;
        (code == CKR_OK).then(|| label.trim_end().to_owned())
    }
}
