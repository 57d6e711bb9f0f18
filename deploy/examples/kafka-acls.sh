#!/usr/bin/env bash
# Gives a user the least rights that Penstock needs, with Kafka's own tool.
#     kafka-acls.sh BOOTSTRAP USER [ADMIN.properties]
set -euo pipefail
bootstrap=$1 user=$2
options=(--bootstrap-server "$bootstrap" ${3:+--command-config "$3"} --add --allow-principal "User:$user")

# Topics of media, dead letters and the driver's lease, and those of changes and watches. --operation Create is for the
# first start only.
for topics in media. penstock.; do
    kafka-acls "${options[@]}" --resource-pattern-type prefixed --topic "$topics" \
        --operation Read --operation Write --operation Describe --operation DescribeConfigs --operation Create
done
# The lanes' group, and those of the driver's lease and of watches beside it.
kafka-acls "${options[@]}" --resource-pattern-type prefixed --group penstock --operation Read --operation Describe
