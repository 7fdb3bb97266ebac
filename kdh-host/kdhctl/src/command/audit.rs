//! The audit trail.

use kdh_proto::{
    BrokenChain, ChainVerifier,
    v1::{AuditRecord, ListAuditRecordsRequest},
};
use tonic::Status;

use crate::{
    cli::AuditCommand,
    failure::Failure,
    pages::{PAGE, fetch_all},
    report::{self, Report},
    session::{Client, request},
};

pub(super) async fn run(command: AuditCommand, client: &mut Client) -> Result<Report, Failure> {
    match command {
        AuditCommand::List { after, page } => {
            let records = fetch_all(page.limit, async |last: Option<&AuditRecord>, limit| {
                let after = last.map_or(after, |last| last.sequence);
                fetch(client, after, limit).await
            });
            Ok(report::audit_records(&records.await?))
        }
        AuditCommand::Verify => {
            verify(async |after, limit| fetch(client, after, limit).await).await
        }
    }
}

async fn fetch(client: &mut Client, after: u64, limit: u32) -> Result<Vec<AuditRecord>, Status> {
    let message = ListAuditRecordsRequest { after, limit };
    let page = client.list_audit_records(request(message)).await?;
    Ok(page.into_inner().records)
}

/// Follows the chain from its beginning. Holds one page at a time: a trail may be long.
async fn verify(
    mut fetch: impl AsyncFnMut(u64, u32) -> Result<Vec<AuditRecord>, Status>,
) -> Result<Report, Failure> {
    let mut chain = ChainVerifier::default();
    loop {
        let records = fetch(chain.verified(), PAGE).await?;
        for record in &records {
            chain.verify(record).map_err(broken)?;
        }
        if records.len() < PAGE as usize {
            return Ok(report::verified_audit_trail(
                chain.verified(),
                &chain.head(),
            ));
        }
    }
}

fn broken(fault: BrokenChain) -> Failure {
    Failure::failed(
        format!("the audit trail does not verify: {fault}"),
        Some(
            "keep the database as it is, compare it with a backup, and treat this as an incident: \
             the host itself never changes a record",
        ),
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use kdh_proto::{FIRST_PREVIOUS_HASH, audit_hash, to_hex};

    use super::*;

    /// Longer than two pages.
    const LEN: u64 = 2 * PAGE as u64 + 3;

    fn trail(len: u64) -> Vec<AuditRecord> {
        let mut head = FIRST_PREVIOUS_HASH;
        let record = |sequence| {
            let mut record = AuditRecord {
                sequence,
                at: "2026-01-01T00:00:00Z".to_owned(),
                actor: "operator:ada".to_owned(),
                action: "device.added".to_owned(),
                device: format!("SN-{sequence}"),
                outcome: "ok".to_owned(),
                detail: "{}".to_owned(),
                previous_hash: to_hex(&head),
                hash: String::new(),
            };
            head = audit_hash(&head, &record);
            record.hash = to_hex(&head);
            record
        };
        (1..=len).map(record).collect()
    }

    /// Verifies what a host with these records hands out.
    async fn verify_all(records: &[AuditRecord]) -> Result<Report, Failure> {
        let after = |after: u64| records.iter().filter(move |record| record.sequence > after);
        verify(async |sequence, limit| Ok(after(sequence).take(limit as usize).cloned().collect()))
            .await
    }

    #[tokio::test]
    async fn whole_trails_verify_over_every_number_of_pages() {
        for len in [0, 1, u64::from(PAGE), u64::from(PAGE) + 1, LEN] {
            let records = trail(len);
            let report = verify_all(&records).await.unwrap();
            let head = records
                .last()
                .map_or_else(|| to_hex(&FIRST_PREVIOUS_HASH), |last| last.hash.clone());
            assert_eq!(
                report.json,
                serde_json::json!({"verified": len, "head": head})
            );
        }
    }

    #[tokio::test]
    async fn every_change_is_found_on_every_page() {
        type Change = fn(&mut Vec<AuditRecord>, usize);
        let changes: [(&str, Change); 5] = [
            ("altered", |records, at| {
                records[at].outcome = "NOT_BOUND".to_owned();
            }),
            ("hash altered", |records, at| {
                records[at].hash = to_hex(&[7; 32]);
            }),
            ("taken out", |records, at| {
                records.remove(at);
            }),
            ("moved", |records, at| records.swap(at, at + 1)),
            ("renumbered", |records, at| {
                records.remove(at);
                for record in &mut records[at..] {
                    record.sequence -= 1;
                }
            }),
        ];
        for (case, change) in changes {
            for at in [0, 1, PAGE as usize - 1, PAGE as usize, 2 * PAGE as usize] {
                let mut records = trail(LEN);
                change(&mut records, at);
                let failure = verify_all(&records).await.unwrap_err();
                assert_eq!(failure.exit_code, 1);
                let text = failure.to_string();
                assert!(text.contains("does not verify"), "{case} at {at}: {text}");
                assert!(text.contains("incident"), "{case} at {at}: {text}");
            }
        }
    }

    #[tokio::test]
    async fn a_host_that_fails_half_way_verifies_nothing() {
        let records = trail(LEN);
        let failure = verify(async |after, limit| {
            if after > 0 {
                return Err(Status::unavailable("gone"));
            }
            Ok(records[..limit as usize].to_vec())
        });
        assert!(failure.await.unwrap_err().to_string().contains("gone"));
    }
}
