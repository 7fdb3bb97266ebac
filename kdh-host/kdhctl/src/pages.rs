//! Lists, page by page.

use tonic::Status;

/// Rows per call; the host gives 1000 at most.
pub(crate) const PAGE: u32 = 500;

/// Fetches rows until there are no more, or `limit` of them. `fetch` is given the last row so far and
/// how many rows to ask for.
pub(crate) async fn fetch_all<T>(
    limit: Option<u32>,
    mut fetch: impl AsyncFnMut(Option<&T>, u32) -> Result<Vec<T>, Status>,
) -> Result<Vec<T>, Status> {
    let mut left = limit.unwrap_or(u32::MAX);
    let mut rows = Vec::new();
    while left > 0 {
        let asked = left.min(PAGE);
        let page = fetch(rows.last(), asked).await?;
        let full = page.len() >= asked as usize;
        left -= asked;
        rows.extend(page);
        if !full {
            break;
        }
    }
    Ok(rows)
}

/// The same, where the host says how far it has looked: a page may be short, and not the last. `fetch` is given where to
/// look on, and says where then, or that there are no more rows.
pub(crate) async fn fetch_on<T, P: Default>(
    limit: Option<u32>,
    mut fetch: impl AsyncFnMut(P, u32) -> Result<(Vec<T>, Option<P>), Status>,
) -> Result<Vec<T>, Status> {
    let mut left = limit.unwrap_or(u32::MAX);
    let mut rows = Vec::new();
    let mut further = Some(P::default());
    while left > 0
        && let Some(behind) = further
    {
        let page;
        (page, further) = fetch(behind, left.min(PAGE)).await?;
        left = left.saturating_sub(u32::try_from(page.len()).unwrap_or(u32::MAX));
        rows.extend(page);
    }
    Ok(rows)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// What a host with the rows `1..=existing` gives, and how it was asked.
    async fn fetch(existing: u32, limit: Option<u32>) -> (Vec<u32>, Vec<(Option<u32>, u32)>) {
        let mut calls = Vec::new();
        let rows = fetch_all(limit, async |last: Option<&u32>, asked| {
            calls.push((last.copied(), asked));
            let after = last.copied().unwrap_or(0);
            Ok((after + 1..=existing).take(asked as usize).collect())
        });
        (rows.await.unwrap(), calls)
    }

    #[tokio::test]
    async fn every_row_comes_once_and_in_order() {
        for existing in [0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 7] {
            let (rows, calls) = fetch(existing, None).await;
            assert!(rows.iter().copied().eq(1..=existing), "{existing}");
            assert!(calls.iter().all(|(_, asked)| *asked == PAGE), "{existing}");
            assert_eq!(calls.len(), (existing / PAGE + 1) as usize, "{existing}");
        }
    }

    #[tokio::test]
    async fn no_more_is_asked_for_than_wanted() {
        assert_eq!(fetch(9, Some(0)).await, (vec![], vec![]));
        assert_eq!(fetch(9, Some(2)).await, (vec![1, 2], vec![(None, 2)]));
        let (rows, calls) = fetch(2 * PAGE, Some(PAGE + 3)).await;
        assert!(rows.into_iter().eq(1..=PAGE + 3));
        assert_eq!(calls, [(None, PAGE), (Some(PAGE), 3)]);
    }

    #[tokio::test]
    async fn a_failure_on_a_later_page_fails_the_whole() {
        let rows = fetch_all(None, async |last: Option<&u32>, asked| match last {
            None => Ok((1..=asked).collect()),
            Some(_) => Err(Status::unavailable("gone")),
        });
        assert_eq!(rows.await.unwrap_err().message(), "gone");
    }

    #[tokio::test]
    async fn a_short_page_is_not_the_last_if_the_host_looks_on() {
        // Every tenth of so many rows is wanted, and seven are looked at at once.
        let fetch = async |limit| {
            let mut calls = 0;
            let rows = fetch_on(limit, async |behind: u32, asked| {
                calls += 1;
                let looked_at = behind + 1..=(behind + 7).min(100);
                let last = *looked_at.end();
                let wanted = looked_at.filter(|row| row % 10 == 0);
                let rows: Vec<_> = wanted.take(asked as usize).collect();
                Ok((rows, (last < 100).then_some(last)))
            });
            (rows.await.unwrap(), calls)
        };
        let all: Vec<_> = (1..=10).map(|row| row * 10).collect();
        assert_eq!(fetch(None).await, (all.clone(), 15));
        assert_eq!(fetch(Some(3)).await, (all[..3].to_vec(), 5));
        assert_eq!(fetch(Some(0)).await, (vec![], 0));
        let failing = fetch_on(None, async |behind: u32, _| match behind {
            0 => Ok((vec![1], Some(1))),
            _ => Err(Status::unavailable("gone")),
        });
        assert_eq!(failing.await.unwrap_err().message(), "gone");
    }
}
