//! Kryoptic, a PKCS#11 token in software, as a module to load: the second one that the tests run
//! on. Never part of the product.
//!
//! It reads the file that `KRYOPTIC_CONF` names, once per process.

use kryoptic_lib::{
    fns::general::{fn_get_function_list, fn_get_interface, fn_get_interface_list},
    pkcs11::{
        CK_FLAGS, CK_FUNCTION_LIST_PTR_PTR, CK_INTERFACE_PTR, CK_INTERFACE_PTR_PTR, CK_RV,
        CK_ULONG_PTR, CK_UTF8CHAR_PTR, CK_VERSION_PTR,
    },
};

/// PKCS#11 2.40, 5.4: what a caller looks a module's other functions up with.
// SAFETY: the name is PKCS#11's, and nothing else in this library has it.
#[unsafe(no_mangle)]
pub extern "C" fn C_GetFunctionList(functions: CK_FUNCTION_LIST_PTR_PTR) -> CK_RV {
    fn_get_function_list(functions)
}

/// PKCS#11 3.0, 5.4.5.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub extern "C" fn C_GetInterfaceList(list: CK_INTERFACE_PTR, count: CK_ULONG_PTR) -> CK_RV {
    fn_get_interface_list(list, count)
}

/// PKCS#11 3.0, 5.4.6.
// SAFETY: as above.
#[unsafe(no_mangle)]
pub extern "C" fn C_GetInterface(
    name: CK_UTF8CHAR_PTR,
    version: CK_VERSION_PTR,
    interface: CK_INTERFACE_PTR_PTR,
    flags: CK_FLAGS,
) -> CK_RV {
    fn_get_interface(name, version, interface, flags)
}
