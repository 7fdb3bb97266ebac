/// The only accepted value of `ReceiptStatement.context`.
pub const RECEIPT_CONTEXT: &str = "kdh.v1.ReceiptStatement";
