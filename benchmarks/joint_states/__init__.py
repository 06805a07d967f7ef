"""The age of joint states at their receivers while tasks run."""
