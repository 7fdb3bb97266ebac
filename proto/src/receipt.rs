/// The only accepted value of `ReceiptStatement.context`.
pub const RECEIPT_CONTEXT: &str = "kdh.v1.ReceiptStatement";
/// The only accepted value of `BindingStatement.context`.
pub const BINDING_CONTEXT: &str = "kdh.v1.BindingStatement";
