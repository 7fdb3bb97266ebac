//! Key profiles in all their versions, and what carries them.

use std::collections::{HashMap, HashSet};

use kdh_proto::v1::AuditRecord;
use serde_json::{Value, json};
use sqlx::Row as _;

use super::{Actor, Device, Row, StoreError, Tx};
use crate::{
    key_profile::{KeyProfile, Target, document},
    names::{ProfileName, Why},
};

const WHAT: &str = "key profile";

/// The actions in the audit trail that make versions, and that say what carries a profile.
pub(crate) const PROFILE_PUT: &str = "key-profile.put";
pub(crate) const PROFILE_REMOVED: &str = "key-profile.removed";
pub(crate) const PROFILE_ASSIGNED: &str = "key-profile.assigned";

/// A version of a key profile.
#[derive(Clone, Debug)]
pub(crate) struct ProfileVersion {
    pub(crate) name: ProfileName,
    /// The first one is 1.
    pub(crate) version: u32,
    /// None: the profile was removed by this version.
    pub(crate) profile: Option<KeyProfile>,
    /// An operator's name.
    pub(crate) put_by: String,
    pub(crate) why: String,
    pub(crate) created_at: String,
}

/// That a model or a group carries a profile.
#[derive(Clone, Debug)]
pub(crate) struct ProfileAssignment {
    pub(crate) target: Target,
    pub(crate) profile: ProfileName,
    /// An operator's name.
    pub(crate) assigned_by: String,
    pub(crate) why: String,
    pub(crate) created_at: String,
}

impl ProfileVersion {
    /// What the audit trail says of it.
    pub(crate) fn record(&self) -> Value {
        json!({
            "profile": self.name.as_str(),
            "version": self.version,
            "slots": self.profile.as_ref().map(document::to_json),
            "why": self.why,
        })
    }
}

/// What the audit trail says of a model or a group that carries a profile, or none any more.
pub(crate) fn assignment_record(
    target: &Target,
    profile: Option<&ProfileName>,
    why: &str,
) -> Value {
    json!({
        "kind": target.kind(),
        "name": target.name(),
        "profile": profile.map(ProfileName::as_str),
        "why": why,
    })
}

impl Tx {
    /// Adds a version; `false` if there is one of this number.
    pub(crate) async fn insert_profile_version(
        &mut self,
        version: &ProfileVersion,
    ) -> Result<bool, StoreError> {
        let document = version.profile.as_ref().map(document::to_json);
        let inserted = sqlx::query(
            "INSERT INTO key_profiles (name, version, document, put_by, why, created_at)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .bind(version.name.as_str())
        .bind(i64::from(version.version))
        .bind(document.map(|document| document.to_string()))
        .bind(&version.put_by)
        .bind(&version.why)
        .bind(&version.created_at)
        .execute(self.connection().await?)
        .await?;
        Ok(inserted.rows_affected() == 1)
    }

    /// The newest version of a profile, which may say that it was removed.
    pub(crate) async fn newest_profile(
        &mut self,
        name: &ProfileName,
    ) -> Result<Option<ProfileVersion>, StoreError> {
        let newest =
            sqlx::query("SELECT * FROM key_profiles WHERE name = $1 ORDER BY version DESC LIMIT 1")
                .bind(name.as_str())
                .fetch_optional(self.connection().await?)
                .await?;
        newest.as_ref().map(read).transpose()
    }

    /// Every version of a profile, newest first.
    pub(crate) async fn profile_versions(
        &mut self,
        name: &ProfileName,
    ) -> Result<Vec<ProfileVersion>, StoreError> {
        sqlx::query("SELECT * FROM key_profiles WHERE name = $1 ORDER BY version DESC")
            .bind(name.as_str())
            .fetch_all(self.connection().await?)
            .await?
            .iter()
            .map(read)
            .collect()
    }

    /// The newest version of each profile, by name, without those that are removed.
    pub(crate) async fn profiles(&mut self) -> Result<Vec<ProfileVersion>, StoreError> {
        sqlx::query(
            "SELECT * FROM key_profiles p WHERE document IS NOT NULL
                 AND version = (SELECT MAX(version) FROM key_profiles q WHERE q.name = p.name)
             ORDER BY name",
        )
        .fetch_all(self.connection().await?)
        .await?
        .iter()
        .map(read)
        .collect()
    }

    /// Has a model or a group carry a profile, or none.
    pub(crate) async fn assign_profile(
        &mut self,
        target: &Target,
        profile: Option<&ProfileName>,
        by: &str,
        why: &Why,
    ) -> Result<(), StoreError> {
        let Some(profile) = profile else {
            sqlx::query("DELETE FROM key_profile_targets WHERE kind = $1 AND name = $2")
                .bind(target.kind())
                .bind(target.name())
                .execute(self.connection().await?)
                .await?;
            return Ok(());
        };
        sqlx::query(
            "INSERT INTO key_profile_targets (kind, name, profile, assigned_by, why, created_at)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (kind, name) DO UPDATE SET profile = excluded.profile,
                 assigned_by = excluded.assigned_by, why = excluded.why, created_at = excluded.created_at",
        )
        .bind(target.kind())
        .bind(target.name())
        .bind(profile.as_str())
        .bind(by)
        .bind(why.as_str())
        .bind(self.now.clone())
        .execute(self.connection().await?)
        .await?;
        Ok(())
    }

    /// Everything that carries a profile: this one, or any.
    pub(crate) async fn profile_assignments(
        &mut self,
        profile: Option<&ProfileName>,
    ) -> Result<Vec<ProfileAssignment>, StoreError> {
        sqlx::query(
            "SELECT * FROM key_profile_targets WHERE ($1 = '' OR profile = $1) ORDER BY kind, name",
        )
        .bind(profile.map_or("", ProfileName::as_str))
        .fetch_all(self.connection().await?)
        .await?
        .iter()
        .map(read_assignment)
        .collect()
    }

    /// The models and groups that carry one. What could be no name of either is left out: no device is of it.
    pub(crate) async fn profile_targets(&mut self) -> Result<Vec<Target>, StoreError> {
        let rows = sqlx::query("SELECT kind, name FROM key_profile_targets ORDER BY kind, name")
            .fetch_all(self.connection().await?)
            .await?;
        let mut targets = Vec::with_capacity(rows.len());
        for row in &rows {
            let (kind, name): (String, String) = (row.try_get("kind")?, row.try_get("name")?);
            targets.extend(Target::of_parts(&kind, &name));
        }
        Ok(targets)
    }

    /// That a model or a group carries a profile, if it does.
    pub(crate) async fn profile_assignment(
        &mut self,
        target: &Target,
    ) -> Result<Option<ProfileAssignment>, StoreError> {
        sqlx::query("SELECT * FROM key_profile_targets WHERE kind = $1 AND name = $2")
            .bind(target.kind())
            .bind(target.name())
            .fetch_optional(self.connection().await?)
            .await?
            .as_ref()
            .map(read_assignment)
            .transpose()
    }

    /// The newest version of the profile that a model or a group carries, if it carries one.
    pub(crate) async fn profile_at(
        &mut self,
        target: &Target,
    ) -> Result<Option<ProfileVersion>, StoreError> {
        let newest = sqlx::query(
            "SELECT p.* FROM key_profile_targets t JOIN key_profiles p ON p.name = t.profile
             WHERE t.kind = $1 AND t.name = $2 ORDER BY p.version DESC LIMIT 1",
        )
        .bind(target.kind())
        .bind(target.name())
        .fetch_optional(self.connection().await?)
        .await?;
        newest.as_ref().map(read).transpose()
    }

    /// The profile that says what a device holds, and what of the device carries it: its group, or else its model.
    pub(crate) async fn profile_of(
        &mut self,
        device: &Device,
    ) -> Result<Option<(Target, ProfileVersion)>, StoreError> {
        let model = Target::of_parts("MODEL", &device.model);
        let group = device.group.clone().map(Target::Group);
        for target in [group, model].into_iter().flatten() {
            if let Some(version) = self.profile_at(&target).await? {
                return Ok(Some((target, version)));
            }
        }
        Ok(None)
    }

    /// Compares the profiles, and what carries them, with what the audit trail says. Returns what is wrong, in words.
    pub(super) async fn verify_profiles(
        &mut self,
        trail: ProfileTrail,
    ) -> Result<Option<String>, StoreError> {
        let rows = sqlx::query("SELECT * FROM key_profiles")
            .fetch_all(self.connection().await?)
            .await?;
        for row in &rows {
            let version = read(row)?;
            let put = (operator(&version.put_by), version.record().to_string());
            if !trail.put.contains(&put) {
                return Ok(Some(format!(
                    "key profile {}: no operator put its version {} as its row in the database says",
                    version.name, version.version
                )));
            }
        }
        if rows.len() != trail.put.len() {
            return Ok(Some(
                "key profiles: a version that an operator put is gone from the database".to_owned(),
            ));
        }
        let mut assigned = trail.assigned;
        for row in self.profile_assignments(None).await? {
            let record = assignment_record(&row.target, Some(&row.profile), &row.why);
            let said = assigned.remove(&(row.target.kind().into(), row.target.name().into()));
            if said != Some((operator(&row.assigned_by), record.to_string())) {
                return Ok(Some(format!(
                    "{}: no operator assigned it the key profile that its row in the database says",
                    row.target
                )));
            }
        }
        Ok(assigned.into_keys().next().map(|(kind, name)| {
            format!(
                "{} {name}: the key profile that an operator assigned it is gone from the database",
                kind.to_lowercase()
            )
        }))
    }
}

/// What the audit trail says of key profiles: by whom, and its detail.
#[derive(Default)]
pub(super) struct ProfileTrail {
    put: HashSet<(String, String)>,
    /// By kind and name of what carries them.
    assigned: HashMap<(String, String), (String, String)>,
}

impl ProfileTrail {
    pub(super) fn note(&mut self, record: AuditRecord) {
        match &*record.action {
            PROFILE_PUT | PROFILE_REMOVED => {
                self.put.insert((record.actor, record.detail));
            }
            PROFILE_ASSIGNED => {
                let detail: Value = serde_json::from_str(&record.detail).unwrap_or_default();
                let text = |field: &str| detail[field].as_str().unwrap_or_default().to_owned();
                let target = (text("kind"), text("name"));
                if detail["profile"].is_null() {
                    self.assigned.remove(&target);
                } else {
                    self.assigned.insert(target, (record.actor, record.detail));
                }
            }
            _ => {}
        }
    }
}

fn operator(name: &str) -> String {
    Actor::Operator(name.to_owned()).to_string()
}

fn read(row: &Row) -> Result<ProfileVersion, StoreError> {
    let damaged = || StoreError::Damaged(WHAT);
    let name: String = row.try_get("name")?;
    let name = ProfileName::parse(&name).map_err(|_| damaged())?;
    let version: i64 = row.try_get("version")?;
    let document: Option<String> = row.try_get("document")?;
    let profile = document.map(|text| document::from_json(&name, &text).ok_or_else(damaged));
    Ok(ProfileVersion {
        version: u32::try_from(version).map_err(|_| damaged())?,
        profile: profile.transpose()?,
        name,
        put_by: row.try_get("put_by")?,
        why: row.try_get("why")?,
        created_at: row.try_get("created_at")?,
    })
}

fn read_assignment(row: &Row) -> Result<ProfileAssignment, StoreError> {
    let damaged = || StoreError::Damaged(WHAT);
    let (kind, name): (String, String) = (row.try_get("kind")?, row.try_get("name")?);
    let profile: String = row.try_get("profile")?;
    Ok(ProfileAssignment {
        target: Target::of_parts(&kind, &name).ok_or_else(damaged)?,
        profile: ProfileName::parse(&profile).map_err(|_| damaged())?,
        assigned_by: row.try_get("assigned_by")?,
        why: row.try_get("why")?,
        created_at: row.try_get("created_at")?,
    })
}
