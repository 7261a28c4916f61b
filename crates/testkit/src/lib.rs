//! Reference evaluator, generators and peers for tests
