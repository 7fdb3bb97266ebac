//! Everything that touches PKCS#11: tokens, keys, sealing, combining, check values.
//!
//! No handle, session or mechanism leaves this crate, and on the host's side no key does either:
//! [`Token::seal`] builds a key block round a Kn that stays in the module, and [`Token::open_inside`]
//! takes it out of there on the terminal. A Kn that lies outside, under the HSM's storage keys ([`StoredKn`]), comes
//! back for one operation; one that is derived ([`InitialKey`]) is derived again for each. To other systems keys go
//! wrapped inside ([`TokenGroup::export`]). The two places where key bytes do stand in process memory
//! are named for it: a component on its way into a [`Combination`] or a [`StoredSum`], and
//! [`Token::open_in_process_memory`] for a terminal whose token can do no better.
//!
//! All calls block. Work that a server does for its clients goes through a bounded queue to a few
//! threads, each in a session of its own, and has a deadline ([`TokenConfig`]). A token that is lost is
//! opened again ([`Health`]), and several that hold the same keys can be worked as one ([`TokenGroup`]). Acts that change
//! what a token holds run on the caller's thread, in a session of their own and without a
//! deadline: giving up halfway would leave it open what the token holds.

mod answer;
mod capabilities;
mod check_value;
mod cipher;
mod combine;
mod derive;
mod error;
mod export;
mod group;
mod health;
mod import;
mod inspect;
mod kcv;
mod key_block;
mod keys;
mod known;
mod limit;
mod master_key;
mod module;
mod name;
mod open;
mod operations;
mod pin;
mod pool;
mod private_file;
mod process;
mod records;
mod role;
mod seal;
mod secret;
mod self_test;
mod session;
mod sessions;
mod signing;
mod speed;
mod staged;
mod storage;
mod template;
mod token;
mod unfinished;
mod warden;
mod worker;

pub use capabilities::{
    Capabilities, CombiningWay, Missing, OpeningWay, PassedWay, SealingWay, SelfTestReport,
};
pub use combine::{
    Combination, Completion, EnteredComponent, StoredSum, StoredSumSummary, SumId, SumTarget,
    require_sound_component,
};
pub use derive::{DerivationError, InitialKey, InitialKeyId};
pub use error::HsmError;
pub use export::{ExportError, ExportForm, ExportTarget, ExportedKey, KeyExport};
pub use group::{FoundKey, SignedDraft, TokenGroup};
pub use health::{Failure, Health};
pub use import::{
    CiphertextError, ImportError, ImportForm, KeyImport, KeyWrap, Upstream, UpstreamError,
    UpstreamFreshness, UpstreamToken, WrappedKey, read_ciphertext, verify_announced_header,
};
pub use kcv::{Kcv, KcvError, KcvMethod};
pub use keys::{KeyClass, KeyStrength, KeySummary, SecretKey};
pub use module::{Module, ModuleInfo, TokenInfo};
pub use name::{KeyName, NameError};
pub use open::{DecryptionKey, ExpectedKeyBlock, InProcessMemoryConsent};
pub use operations::Operations;
pub use pin::Pin;
pub use private_file::{PrivateFileError, open_private_file};
pub use process::forbid_core_dumps;
pub use role::{KeyPairKind, KeyRole};
pub use seal::{SealRequest, SealedKeyBlock};
pub use secret::{ClearKey, ClearKeyBlock, ClearKeyError};
pub use signing::SigningKey;
pub use speed::Speed;
pub use staged::StagedKey;
pub use storage::{
    Authenticated, KnSource, Mac, MadeKey, NewKey, Rewrapped, StorageError, StorageNumber, StoredKn,
};

pub use token::{Token, TokenConfig};
