//! Kryoptic, a PKCS#11 token in software, as a module to load: the second one that the tests run
//! on. Never part of the product.
//!
//! It reads the file that `KRYOPTIC_CONF` names, once per process.
//!
//! Of the ways to ask for its functions it offers the oldest alone: with those of PKCS#11 3.0 it would
//! hand them out past the spy that the boundary tests put in front of it.

use kryoptic_lib::{
    fns::general::fn_get_function_list,
    pkcs11::{CK_FUNCTION_LIST_PTR_PTR, CK_RV},
};

/// PKCS#11 2.40, 5.4: what a caller looks a module's other functions up with.
// SAFETY: the name is PKCS#11's, and nothing else in this library has it.
#[unsafe(no_mangle)]
pub extern "C" fn C_GetFunctionList(functions: CK_FUNCTION_LIST_PTR_PTR) -> CK_RV {
    fn_get_function_list(functions)
}
