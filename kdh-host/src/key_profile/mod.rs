//! What the slots of devices hold: key profiles, which device models and device groups carry.
//!
//! ```text
//! profile   a profile, and what is different between two versions of it
//! document  profiles as messages and the database have them
//! usages    which usages go with which modes of use and algorithms
//! policy    what no slot may hold
//! target    what carries a profile
//! plan      what a change would do, and to how many devices
//! in_force  what a slot of a device may get now
//! groups    devices that belong together
//! ```

pub(crate) mod document;
pub(crate) mod groups;
pub(crate) mod in_force;
mod plan;
mod policy;
pub(crate) mod profile;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
pub(crate) mod samples;
mod target;
mod usages;

use hsm::HsmError;
use kdh_proto::{
    Reason,
    v1::{AssignKeyProfileRequest, PutKeyProfileRequest, RemoveKeyProfileRequest},
};
use serde_json::json;

use self::policy::{Grounds, judge};
pub(crate) use self::{
    plan::{Plan, SlotPlan},
    policy::Finding,
    profile::KeyProfile,
    target::Target,
};
use crate::{
    Host, HostError,
    administration::Operator,
    bdks::DerivedKey,
    config::{KeyPolicy, SharedKeys},
    error::refused,
    names::{ProfileName, Why},
    store::{
        AuditEntry, PROFILE_ASSIGNED, PROFILE_PUT, PROFILE_REMOVED, ProfileAssignment,
        ProfileVersion, Tx, assignment_record, method_word,
    },
};

/// What was done, or would be.
#[derive(Debug)]
pub(crate) struct Change {
    /// The version that is current then; of a dry run, the one that it would be.
    pub(crate) current: Option<ProfileVersion>,
    pub(crate) unchanged: bool,
    pub(crate) plan: Plan,
}

/// A new version of a profile, or a new profile. A version that says nothing new is none.
pub(crate) async fn put(
    host: &Host,
    operator: &Operator,
    request: &PutKeyProfileRequest,
) -> Result<Change, HostError> {
    let profile = document::parse(&request.profile.clone().unwrap_or_default())?;
    let why = why(&request.why, request.dry_run)?;
    let findings = judge(&profile, &grounds(host));
    require_derivable(host, &profile, &findings).await?;
    let mut tx = begin(host, request.dry_run).await?;
    require_registered(&mut tx, &profile).await?;
    let newest = tx.recorded_profile(&profile.name).await?;
    let before = newest.as_ref().and_then(|newest| newest.profile.as_ref());
    let plan = Plan::of_put(&mut tx, before, &profile, findings).await?;
    if before == Some(&profile) {
        return Ok(Change {
            current: newest,
            unchanged: true,
            plan,
        });
    }
    let number = require_base(&profile.name, newest.as_ref(), request.based_on)?;
    let version = ProfileVersion {
        name: profile.name.clone(),
        version: number + 1,
        profile: Some(profile),
        put_by: operator.name().to_owned(),
        why,
        created_at: tx.now().to_owned(),
    };
    if !request.dry_run {
        require_allowed(&plan.findings)?;
        insert(&mut tx, operator, PROFILE_PUT, &version).await?;
        record_warnings(&mut tx, operator, &version, &plan.findings).await?;
        tx.commit().await?;
    }
    Ok(Change {
        current: Some(version),
        unchanged: false,
        plan,
    })
}

/// Has a model or a group carry a profile, or none any more.
pub(crate) async fn assign(
    host: &Host,
    operator: &Operator,
    request: &AssignKeyProfileRequest,
) -> Result<Change, HostError> {
    let target = Target::parse(request.target.as_ref())?;
    let name = match &*request.profile_name {
        "" => None,
        name => Some(ProfileName::parse(name)?),
    };
    let why = why(&request.why, request.dry_run)?;
    let mut tx = begin(host, request.dry_run).await?;
    let current = match &name {
        Some(name) => Some(require_profile(&mut tx, name).await?),
        None => None,
    };
    let after = current
        .as_ref()
        .and_then(|version| version.profile.as_ref());
    let findings = after.map(|profile| judge(profile, &grounds(host)));
    let plan = Plan::of_assignment(&mut tx, &target, after, findings.unwrap_or_default()).await?;
    let unchanged = tx.carries(&target, name.as_ref()).await?;
    if unchanged && name.is_none() {
        let cause = format!("{target} carries no key profile");
        return Err(refused(Reason::NotFound, cause));
    }
    if !unchanged && !request.dry_run {
        require_allowed(&plan.findings)?;
        let why = Why::parse(&why)?;
        tx.assign_profile(&target, name.as_ref(), operator.name(), &why)
            .await?;
        tx.record(AuditEntry {
            actor: &operator.actor(),
            action: PROFILE_ASSIGNED,
            device: None,
            outcome: "ok",
            detail: assignment_record(&target, name.as_ref(), why.as_str()),
        })
        .await?;
        if let Some(version) = &current {
            record_warnings(&mut tx, operator, version, &plan.findings).await?;
        }
        tx.commit().await?;
    }
    Ok(Change {
        current,
        unchanged,
        plan,
    })
}

/// Removes a profile that nothing carries. Its versions stay readable.
pub(crate) async fn remove(
    host: &Host,
    operator: &Operator,
    request: &RemoveKeyProfileRequest,
) -> Result<ProfileVersion, HostError> {
    let name = ProfileName::parse(&request.profile_name)?;
    let why = Why::parse(&request.why)?;
    let mut tx = host.store().write(host.now()).await?;
    let newest = require_profile(&mut tx, &name).await?;
    let carriers = tx.profile_assignments(Some(&name)).await?;
    if !carriers.is_empty() {
        let carriers: Vec<_> = carriers.iter().map(|it| it.target.to_string()).collect();
        let cause = format!(
            "key profile {name} is carried by {}: have them carry another one, or none, first",
            carriers.join(", ")
        );
        return Err(refused(Reason::WrongState, cause));
    }
    let version = ProfileVersion {
        version: newest.version + 1,
        profile: None,
        put_by: operator.name().to_owned(),
        why: why.to_string(),
        created_at: tx.now().to_owned(),
        name,
    };
    insert(&mut tx, operator, PROFILE_REMOVED, &version).await?;
    tx.commit().await?;
    Ok(version)
}

/// All profiles, and everything that carries one.
pub(crate) async fn list(
    host: &Host,
) -> Result<(Vec<ProfileVersion>, Vec<ProfileAssignment>), HostError> {
    let mut tx = host.store().read(host.now()).await?;
    Ok((tx.profiles().await?, tx.profile_assignments(None).await?))
}

/// A version of a profile, with all that came before it.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) version: ProfileVersion,
    /// Newest first.
    pub(crate) history: Vec<ProfileVersion>,
    pub(crate) reach: Vec<(Target, u64)>,
    pub(crate) findings: Vec<Finding>,
}

/// Shows a profile: the newest version, or the one of this number.
pub(crate) async fn show(host: &Host, name: &str, version: u32) -> Result<Shown, HostError> {
    let name = ProfileName::parse(name)?;
    let mut tx = host.store().read(host.now()).await?;
    let history = tx.profile_versions(&name).await?;
    let found = history
        .iter()
        .find(|found| version == 0 || found.version == version)
        .cloned();
    let version = found.ok_or_else(|| match history.first() {
        None => unknown(&name),
        Some(newest) => refused(
            Reason::NotFound,
            format!(
                "key profile {name} has the versions 1 to {}, and no version {version}",
                newest.version
            ),
        ),
    })?;
    let (reach, findings) = match &version.profile {
        Some(profile) => (
            plan::reach(&mut tx, profile).await?,
            judge(profile, &grounds(host)),
        ),
        None => (Vec::new(), Vec::new()),
    };
    Ok(Shown {
        version,
        history,
        reach,
        findings,
    })
}

/// Says at the start what the configuration lets pass, and which profiles it would refuse now.
pub(crate) async fn warn(host: &Host) -> Result<(), HostError> {
    if host.config().key_policy == KeyPolicy::Lenient {
        tracing::warn!(
            "key-policy = \"lenient\": key profiles are warned of that strict mode refuses"
        );
    }
    if host.config().shared_keys == SharedKeys::Allow {
        tracing::warn!("shared-keys = \"allow\": key profiles may give one key to many devices");
    }
    let mut tx = host.store().read(host.now()).await?;
    let profiles = tx.profiles().await?;
    drop(tx);
    for version in profiles {
        let Some(profile) = &version.profile else {
            continue;
        };
        let findings = judge(profile, &grounds(host));
        for finding in findings.iter().filter(|finding| finding.refuses) {
            tracing::warn!(profile = %version.name, %finding, "this key profile would be refused now");
        }
        match require_derivable(host, profile, &findings).await {
            Err(HostError::Refused { cause, .. }) => {
                tracing::warn!(profile = %version.name, cause, "this key profile would be refused now");
            }
            other => other?,
        }
    }
    Ok(())
}

fn grounds(host: &Host) -> Grounds {
    Grounds::new(host.config(), host.now().date())
}

/// Who only asks what it would do need not say why.
fn why(why: &str, dry_run: bool) -> Result<String, HostError> {
    if dry_run && why.is_empty() {
        return Ok(String::new());
    }
    Ok(Why::parse(why)?.to_string())
}

async fn begin(host: &Host, dry_run: bool) -> Result<Tx, HostError> {
    let (store, now) = (host.store(), host.now());
    Ok(if dry_run {
        store.read(now).await?
    } else {
        store.write(now).await?
    })
}

/// A profile that is not removed.
async fn require_profile(tx: &mut Tx, name: &ProfileName) -> Result<ProfileVersion, HostError> {
    let newest = tx.recorded_profile(name).await?;
    let newest = newest.ok_or_else(|| unknown(name))?;
    if newest.profile.is_some() {
        return Ok(newest);
    }
    let cause = format!(
        "key profile {name} was removed by {} at {}: put it again first",
        newest.put_by, newest.created_at
    );
    Err(refused(Reason::NotFound, cause))
}

fn unknown(name: &ProfileName) -> HostError {
    refused(Reason::NotFound, format!("there is no key profile {name}"))
}

/// Refuses a version that was made without a look at the newest one. Returns the number of that.
fn require_base(
    name: &ProfileName,
    newest: Option<&ProfileVersion>,
    based_on: u32,
) -> Result<u32, HostError> {
    let number = newest.map_or(0, |newest| newest.version);
    if number == based_on {
        return Ok(number);
    }
    let cause = match newest {
        None => format!(
            "there is no key profile {name}, and this is based on its version {based_on}: correct the name, or base it on 0"
        ),
        Some(newest) => format!(
            "this is based on version {based_on} of {name}, and version {number} is there, by {} at {}: look at that one, \
             and base yours on it",
            newest.put_by, newest.created_at
        ),
    };
    Err(refused(Reason::WrongState, cause))
}

/// Shared keys are registered, as the profile says.
async fn require_registered(tx: &mut Tx, profile: &KeyProfile) -> Result<(), HostError> {
    let mut faults = Vec::new();
    for slot in &profile.slots {
        let profile::KeySource::Shared(name) = &slot.source else {
            continue;
        };
        let Some(key) = tx.key(name).await? else {
            faults.push(format!(
                "slot {}: there is no key {name}: register it first",
                slot.slot
            ));
            continue;
        };
        let key = key.unproven();
        let kcv_len = u32::try_from(key.kcv.value().len()).unwrap_or_default();
        let registered = (&key.header, key.kind, key.kcv.method(), kcv_len);
        let said = (&slot.header, slot.kind, slot.kcv.method, slot.kcv.len);
        if registered != said {
            faults.push(format!(
                "slot {}: the key {name} is registered with the header {}, the kind {}, and a check value by {} of {kcv_len} \
                 bytes: say the same",
                slot.slot,
                key.header,
                key.kind,
                method_word(key.kcv.method())
            ));
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(refused(Reason::RequestInvalid, faults.join("\n")))
}

/// Refuses derived keys of BDKs that are not registered, or that this HSM cannot derive from or seal for terminals.
async fn require_derivable(
    host: &Host,
    profile: &KeyProfile,
    findings: &[Finding],
) -> Result<(), HostError> {
    let mut faults = Vec::new();
    for slot in &profile.slots {
        let profile::KeySource::Derived(derivation) = &slot.source else {
            continue;
        };
        let refused = |finding: &Finding| finding.refuses && finding.slot == slot.slot;
        if findings.iter().any(refused) {
            continue;
        }
        let key = DerivedKey::new(slot, derivation);
        let derivable = host.in_hsm(move |keys| keys.verify_derivable(&key));
        match derivable.await {
            Ok(()) => {}
            Err(HostError::Refused { cause, .. }) => {
                faults.push(format!("slot {}: {cause}", slot.slot));
            }
            Err(HostError::Hsm(error @ HsmError::Unsupported { .. })) => {
                faults.push(format!("slot {}: {error}", slot.slot));
            }
            Err(other) => return Err(other),
        }
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(refused(Reason::RequestInvalid, faults.join("\n")))
}

/// Refuses what the policy refuses, all at once.
fn require_allowed(findings: &[Finding]) -> Result<(), HostError> {
    let refusing = findings.iter().filter(|finding| finding.refuses);
    let refusing: Vec<_> = refusing.map(ToString::to_string).collect();
    if refusing.is_empty() {
        return Ok(());
    }
    Err(refused(Reason::RequestInvalid, refusing.join("\n")))
}

async fn insert(
    tx: &mut Tx,
    operator: &Operator,
    action: &'static str,
    version: &ProfileVersion,
) -> Result<(), HostError> {
    if !tx.insert_profile_version(version).await? {
        let (name, version) = (&version.name, version.version);
        let cause = format!("there is a version {version} of key profile {name} already");
        return Err(refused(Reason::WrongState, cause));
    }
    Ok(tx
        .record(AuditEntry {
            actor: &operator.actor(),
            action,
            device: None,
            outcome: "ok",
            detail: version.record(),
        })
        .await?)
}

/// What an operator was warned of stays on record.
async fn record_warnings(
    tx: &mut Tx,
    operator: &Operator,
    version: &ProfileVersion,
    findings: &[Finding],
) -> Result<(), HostError> {
    let warnings = findings.iter().filter(|finding| !finding.refuses);
    let warnings: Vec<_> = warnings
        .map(|finding| json!({"slot": finding.slot.as_str(), "rule": finding.rule}))
        .collect();
    if warnings.is_empty() {
        return Ok(());
    }
    Ok(tx
        .record(AuditEntry {
            actor: &operator.actor(),
            action: "key-profile.warned",
            device: None,
            outcome: "ok",
            detail: json!({
                "profile": version.name.as_str(),
                "version": version.version,
                "warnings": warnings,
            }),
        })
        .await?)
}
