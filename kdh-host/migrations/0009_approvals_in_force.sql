-- What becomes of approvals that are in force.

-- How far the act has come, as text that it understands; none if it has not begun.
ALTER TABLE approvals ADD COLUMN progress TEXT;
-- Which operator withdrew it, and why.
ALTER TABLE approvals ADD COLUMN ended_by TEXT;
ALTER TABLE approvals ADD COLUMN ended_why TEXT;
