"""OpenAI's REST shapes: what requests may say, how they become protos, how answers become JSON, what errors are."""
