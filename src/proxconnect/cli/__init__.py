"""The command `proxconnect`: `main` runs it, `verbs` has one file a verb, `bench` and `demo` what two verbs run."""
