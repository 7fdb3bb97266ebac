//! A PKCS#11 module that forwards every call to another one, and injects faults on command: latency,
//! failing and hanging calls, lost sessions, tokens that are gone. Never part of the product.
//!
//! Variables say what it does, once per process:
//! - `FAULTY_MODULE`: the library of the module that it forwards to.
//! - `FAULTY_NSS`: a file with the library of NSS softoken, which is forwarded to instead, and the folders of
//!   its tokens. `nss.rs` has its form.
//! - `FAULTY_CONTROL`: path of a Unix socket on which it takes commands (`command.rs` has their
//!   language), a line each, from the first `C_Initialize` on. It answers each with one line, and only
//!   after it has taken effect: `ok`, `error: ...`, or what was asked for. New clients are accepted
//!   while the module is initialized; a client that is connected stays so.
//! - `FAULTY_START`: commands, separated by `;`, carried out in the first `C_Initialize`.
//!
//! Of the ways to ask for its functions it offers the oldest alone, and so the functions of PKCS#11
//! 2.40: nothing gets past it.

mod command;
mod control;
mod faulty;
mod functions;
mod gate;
mod nss;
mod real;
mod special;
mod tokens;

use cryptoki_sys::{CK_FUNCTION_LIST_PTR_PTR, CK_RV};

/// PKCS#11 2.40, 5.4: what a caller looks a module's other functions up with.
///
/// # Safety
/// `list` is NULL or points to a place for a pointer.
// SAFETY: the name is PKCS#11's, and nothing else in this library has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: CK_FUNCTION_LIST_PTR_PTR) -> CK_RV {
    // SAFETY: the caller's promise.
    unsafe { functions::wrappers::C_GetFunctionList(list) }
}
