//! Who may have how many connections.

use std::time::Duration;

use tokio::time::timeout;

use super::*;

on_both!(
"current_thread":
    operators_leave_connections_to_terminals,
);

async fn operators_leave_connections_to_terminals(on: Dialect) {
    let database = Database::new(on).await;
    let operators = database.store.for_operators();
    let mut held = vec![
        operators.read(NOW).await.unwrap(),
        operators.ask(NOW).await.unwrap(),
        operators.clone().read(NOW).await.unwrap(),
    ];
    for _ in 0..2 {
        let reading = timeout(Duration::from_millis(50), operators.read(NOW)).await;
        assert!(reading.is_err(), "one too many");
        let asking = timeout(Duration::from_millis(50), operators.ask(NOW)).await;
        assert!(asking.is_err(), "one too many");
    }
    let mut of_terminals = Vec::new();
    for _ in 0..5 {
        of_terminals.push(database.store.read(NOW).await.unwrap());
    }
    // Writing has a connection of its own.
    operators.write(NOW).await.unwrap();
    drop(of_terminals);
    drop(held.pop());
    let again = operators.read(NOW).await.unwrap();
    again.commit().await.unwrap();
    operators.read(NOW).await.unwrap();
}
