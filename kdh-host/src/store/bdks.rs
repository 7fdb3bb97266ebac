//! BDKs that are known to the host, and which of their initial keys it has given out.

use std::collections::{HashMap, HashSet};

use hsm::{InitialKeyId, Kcv};
use kdh_proto::v1::AuditRecord;
use serde_json::{Value, json};
use sqlx::Row as _;
use tr34::KeyKind;

use super::{
    Row, StoreError, Tx,
    few_rows::FewRows,
    keys::{method_word, read_kcv, read_seal},
    sealed::{Columns, Seal, Sealed, SealedRow, bound},
};
use crate::names::{BdkName, beginning};

/// The actions of the records that say what a BDK was registered as, and which derivation ids were given out.
pub(crate) const BDK_REGISTERED: &str = "bdk.registered";
pub(crate) const IDS_CLAIMED: &str = "bdk.ids-claimed";

/// A BDK. The key itself is in the HSM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredBdk {
    pub(crate) name: BdkName,
    pub(crate) kind: KeyKind,
    pub(crate) kcv: Kcv,
    pub(crate) created_at: String,
}

/// A BDK and what the acquirer calls a set of its initial keys: the first half of each one's id (ANSI X9.24-3).
/// The second half, the derivation id, is never given out twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct KeySet {
    pub(crate) bdk: BdkName,
    pub(crate) id: [u8; 4],
}

impl KeySet {
    /// The key set of an initial key, and its derivation id.
    pub(crate) fn of(bdk: &BdkName, id: InitialKeyId) -> (Self, u32) {
        let (mut key_set_id, mut derivation_id) = ([0; 4], [0; 4]);
        key_set_id.copy_from_slice(&id.as_bytes()[..4]);
        derivation_id.copy_from_slice(&id.as_bytes()[4..]);
        let key_set = Self {
            bdk: bdk.clone(),
            id: key_set_id,
        };
        (key_set, u32::from_be_bytes(derivation_id))
    }

    /// The id of one of its initial keys.
    pub(crate) fn initial_key(&self, derivation_id: u32) -> InitialKeyId {
        let mut id = [0; 8];
        id[..4].copy_from_slice(&self.id);
        id[4..].copy_from_slice(&derivation_id.to_be_bytes());
        InitialKeyId::new(id)
    }

    /// Its id, as it is written.
    pub(crate) fn digits(&self) -> String {
        hex::encode_upper(self.id)
    }

    /// What the audit trail says of ids that are given out.
    pub(crate) fn claim(&self, first: u32, last: u32) -> Value {
        json!({
            "bdk": self.bdk.as_str(),
            "key-set-id": self.digits(),
            "first": first,
            "last": last,
        })
    }

    fn parse(bdk: &str, id: &str) -> Option<Self> {
        let mut bytes = [0; 4];
        hex::decode_to_slice(id, &mut bytes).ok()?;
        let bdk = BdkName::parse(bdk).ok()?;
        Some(Self { bdk, id: bytes })
    }
}

impl std::fmt::Display for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key set {} of bdk.{}", self.digits(), self.bdk)
    }
}

/// Initial keys of a key set that were given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GivenOut {
    pub(crate) key_set: KeySet,
    /// The last derivation id; the first is 1.
    pub(crate) last: u32,
    /// How many of them devices have, or have had.
    pub(crate) keys: u64,
}

/// A row as it was read; its name alone if the host cannot have written it.
pub(crate) type BdkRow = Result<Sealed<StoredBdk>, String>;

/// What a row is called, for people.
pub(crate) fn title(name: &str) -> String {
    format!("BDK {}", beginning(name))
}

impl StoredBdk {
    /// Whether it is the same key as another one, as far as one can know: it would give out each initial key twice.
    pub(crate) fn is_same_key(&self, other: &Self) -> bool {
        self.kind == other.kind && self.kcv == other.kcv
    }

    /// What the audit trail says of its registration.
    pub(crate) fn registration(&self) -> Value {
        json!({
            "bdk": self.name.as_str(),
            "kind": self.kind.name(),
            "kcv-method": method_word(self.kcv.method()),
            "kcv": self.kcv.to_string(),
        })
    }
}

impl SealedRow for StoredBdk {
    const TABLE: &'static str = "bdks";

    fn columns(&self, columns: &mut Columns) {
        columns.text(self.name.as_str());
        columns.text(self.kind.name());
        columns.text(method_word(self.kcv.method()));
        columns.text(&self.kcv.to_string());
        columns.text(&self.created_at);
    }

    fn title(&self) -> String {
        title(self.name.as_str())
    }
}

impl Tx {
    /// Makes a BDK known; `false` if its name is taken, or the key has another name already.
    pub(crate) async fn insert_bdk(&mut self, bdk: &Sealed<StoredBdk>) -> Result<bool, StoreError> {
        let statement = sqlx::query(
            "INSERT INTO bdks (name, kind, kcv_method, kcv, created_at, storage_key, mac)
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        );
        let inserted = bound(statement, bdk)
            .execute(self.connection().await?)
            .await?;
        Ok(inserted.rows_affected() == 1)
    }

    /// Puts another seal on a BDK that is otherwise as it was.
    ///
    /// # Errors
    /// [`StoreError::Damaged`]: it is not as it was.
    pub(crate) async fn reseal_bdk(
        &mut self,
        old: &Sealed<StoredBdk>,
        new: &Sealed<StoredBdk>,
    ) -> Result<(), StoreError> {
        let seal = new.seal();
        let statement = sqlx::query(
            "UPDATE bdks SET storage_key = $2, mac = $3 WHERE name = $1 AND mac IS NOT DISTINCT FROM $4",
        )
        .bind(new.unproven().name.to_string())
        .bind(seal.map_or(0, Seal::number))
        .bind(seal.map(Seal::mac_bytes))
        .bind(old.seal().map(Seal::mac_bytes));
        self.exactly_one(statement, "BDK").await
    }

    pub(crate) async fn bdks(&mut self) -> Result<Vec<BdkRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM bdks ORDER BY name")
            .fetch_all(self.connection().await?)
            .await?;
        Ok(rows.iter().map(read).collect())
    }

    /// The last derivation id that was given out of a key set; 0 for none.
    pub(crate) async fn last_derivation_id(&mut self, of: &KeySet) -> Result<u32, StoreError> {
        let last: Option<i64> = sqlx::query_scalar(
            "SELECT last FROM derivation_ids WHERE bdk = $1 AND key_set_id = $2",
        )
        .bind(of.bdk.as_str())
        .bind(of.digits())
        .fetch_optional(self.connection().await?)
        .await?;
        derivation_id(last.unwrap_or_default())
    }

    /// Gives derivation ids out, up to this one. They are given out whatever becomes of the transaction.
    pub(crate) async fn give_derivation_ids(
        &mut self,
        of: &KeySet,
        last: u32,
    ) -> Result<(), StoreError> {
        self.note_ids_given_out(of, last);
        sqlx::query(
            "INSERT INTO derivation_ids (bdk, key_set_id, last) VALUES ($1, $2, $3)
             ON CONFLICT (bdk, key_set_id) DO UPDATE SET last = excluded.last",
        )
        .bind(of.bdk.as_str())
        .bind(of.digits())
        .bind(i64::from(last))
        .execute(self.connection().await?)
        .await?;
        Ok(())
    }

    /// The last derivation id that was given out of each key set.
    pub(crate) async fn derivation_ids(&mut self) -> Result<HashMap<KeySet, u32>, StoreError> {
        let rows = sqlx::query("SELECT * FROM derivation_ids")
            .fetch_all(self.connection().await?)
            .await?;
        let rows = rows.iter().map(|row| {
            let last = derivation_id(row.try_get("last")?)?;
            Ok((read_key_set(row)?, last))
        });
        rows.collect()
    }

    /// What was given out of each key set, with how many keys of devices there are of it.
    pub(crate) async fn given_out(&mut self) -> Result<Vec<GivenOut>, StoreError> {
        let rows = sqlx::query(
            "SELECT d.bdk, d.key_set_id, d.last, (SELECT COUNT(*) FROM device_keys k
                 WHERE k.bdk = d.bdk AND k.key_set_id = d.key_set_id) AS keys_of_devices
             FROM derivation_ids d ORDER BY d.bdk, d.key_set_id",
        )
        .fetch_all(self.connection().await?)
        .await?;
        let given_out = |row: &Row| {
            let keys: i64 = row.try_get("keys_of_devices")?;
            Ok::<_, StoreError>(GivenOut {
                key_set: read_key_set(row)?,
                last: derivation_id(row.try_get("last")?)?,
                keys: u64::try_from(keys).unwrap_or_default(),
            })
        };
        // One that no host has written hides no other: nothing is derived by it.
        Ok(rows.iter().filter_map(|row| given_out(row).ok()).collect())
    }

    /// The last derivation id of a key set that a row of a device's key has; 0 for none.
    async fn last_derived(&mut self, of: &KeySet) -> Result<u32, StoreError> {
        let last: Option<i64> = sqlx::query_scalar(
            "SELECT MAX(derivation_id) FROM device_keys WHERE bdk = $1 AND key_set_id = $2",
        )
        .bind(of.bdk.as_str())
        .bind(of.digits())
        .fetch_one(self.connection().await?)
        .await?;
        derivation_id(last.unwrap_or_default())
    }

    /// Compares the BDKs, and which derivation ids are given out, with what the audit trail says. Returns what is
    /// wrong, in words.
    pub(super) async fn verify_bdks(
        &mut self,
        mut trail: BdkTrail,
    ) -> Result<Option<String>, StoreError> {
        if let Some(fault) = trail.fault {
            return Ok(Some(fault));
        }
        let rows = self.bdks().await?;
        let mut known: Vec<&StoredBdk> = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut said = |name: &str| trail.registered.remove(name);
            let bdk = row.as_ref().map(Sealed::unproven);
            let registered = bdk
                .ok()
                .filter(|bdk| said(bdk.name.as_str()) == Some(bdk.registration().to_string()));
            let Some(bdk) = registered else {
                let name = bdk.map_or_else(String::as_str, |bdk| bdk.name.as_str());
                return Ok(Some(format!(
                    "{}: no operator registered it as its row in the database says",
                    title(name)
                )));
            };
            if let Some(other) = known.iter().find(|other| other.is_same_key(bdk)) {
                return Ok(Some(format!(
                    "{}: it is of the same kind and has the same check value as BDK {}: one key under two names would \
                     give out each initial key twice. Restore the database from a backup from before one of them was \
                     registered, and take a new key set id after that",
                    title(bdk.name.as_str()),
                    other.name
                )));
            }
            known.push(bdk);
        }
        if let Some(name) = trail.registered.keys().next() {
            return Ok(Some(format!(
                "BDK {name}: an operator registered it, and it is gone from the database: restore its row from a backup"
            )));
        }
        let given = self.derivation_ids().await?;
        let sets: HashSet<&KeySet> = given.keys().chain(trail.last.keys()).collect();
        for key_set in sets {
            let last = |of: &HashMap<KeySet, u32>| of.get(key_set).copied().unwrap_or_default();
            let (given, claimed) = (last(&given), last(&trail.last));
            if given != claimed {
                return Ok(Some(format!(
                    "{key_set}: the database says that the derivation ids to {given} are given out, and the audit \
                     trail says to {claimed}: somebody else has changed one of them, and initial keys could be given \
                     out twice. Restore the database from a backup that has all of the trail"
                )));
            }
            let derived = self.last_derived(key_set).await?;
            if derived > given {
                return Ok(Some(format!(
                    "{key_set}: a device has the initial key of derivation id {derived}, and they are given out to \
                     {given}: the audit trail was cut. Restore the database from a backup that has all of it"
                )));
            }
        }
        self.memory.ids.settle(trail.last);
        Ok(None)
    }
}

/// What the audit trail says of BDKs.
#[derive(Default)]
pub(super) struct BdkTrail {
    /// The detail, by name.
    registered: HashMap<String, String>,
    /// The last derivation id that was given out.
    last: HashMap<KeySet, u32>,
    fault: Option<String>,
}

impl BdkTrail {
    pub(super) fn note(&mut self, record: &AuditRecord) {
        let detail = || serde_json::from_str(&record.detail).unwrap_or(Value::Null);
        match &*record.action {
            BDK_REGISTERED => {
                let name = detail()["bdk"].as_str().unwrap_or_default().to_owned();
                self.registered.insert(name, record.detail.clone());
            }
            IDS_CLAIMED => {
                let detail = detail();
                let text = |field: &str| detail[field].as_str().unwrap_or_default();
                let number = |field: &str| u32::try_from(detail[field].as_u64()?).ok();
                let key_set = KeySet::parse(text("bdk"), text("key-set-id"));
                let claim = (key_set, number("first"), number("last"));
                let (Some(key_set), Some(first), Some(last)) = claim else {
                    let fault = format!(
                        "record {} of the audit trail makes no sense",
                        record.sequence
                    );
                    self.fault.get_or_insert(fault);
                    return;
                };
                let before = self.last.entry(key_set).or_default();
                if first <= *before || last < first {
                    let fault = format!(
                        "record {} of the audit trail: derivation ids were given out twice",
                        record.sequence
                    );
                    self.fault.get_or_insert(fault);
                }
                *before = last.max(*before);
            }
            _ => {}
        }
    }
}

fn derivation_id(number: i64) -> Result<u32, StoreError> {
    u32::try_from(number).map_err(|_| StoreError::Damaged("derivation id"))
}

fn read_key_set(row: &Row) -> Result<KeySet, StoreError> {
    let (bdk, id): (String, String) = (row.try_get("bdk")?, row.try_get("key_set_id")?);
    KeySet::parse(&bdk, &id).ok_or(StoreError::Damaged("key set"))
}

/// Where a row of a device's key says whose it is; `None` if none of the columns does.
pub(super) fn read_initial_key(row: &Row) -> Result<Option<(BdkName, InitialKeyId)>, StoreError> {
    let damaged = || StoreError::Damaged("device key");
    let columns: (Option<String>, Option<String>, Option<i64>) = (
        row.try_get("bdk")?,
        row.try_get("key_set_id")?,
        row.try_get("derivation_id")?,
    );
    match columns {
        (None, None, None) => Ok(None),
        (Some(bdk), Some(id), Some(number)) => {
            let key_set = KeySet::parse(&bdk, &id).ok_or_else(damaged)?;
            let id = key_set.initial_key(derivation_id(number)?);
            Ok(Some((key_set.bdk, id)))
        }
        _ => Err(damaged()),
    }
}

impl FewRows for StoredBdk {
    fn read(row: &Row) -> Result<Sealed<Self>, StoreError> {
        read(row).map_err(|name| StoreError::NotSealed(title(&name)))
    }

    async fn reseal(tx: &mut Tx, old: &Sealed<Self>, new: &Sealed<Self>) -> Result<(), StoreError> {
        tx.reseal_bdk(old, new).await
    }
}

fn read(row: &Row) -> BdkRow {
    parse(row).map_err(|_| row.try_get("name").unwrap_or_default())
}

fn parse(row: &Row) -> Result<Sealed<StoredBdk>, StoreError> {
    let damaged = || StoreError::Damaged("BDK");
    let (name, kind): (String, String) = (row.try_get("name")?, row.try_get("kind")?);
    let bdk = StoredBdk {
        name: BdkName::parse(&name).map_err(|_| damaged())?,
        kind: KeyKind::from_name(&kind).ok_or_else(damaged)?,
        kcv: read_kcv(row)?.ok_or_else(damaged)?,
        created_at: row.try_get("created_at")?,
    };
    Ok(Sealed::new(bdk, read_seal(row)?))
}
