"""The table of S3 operations: which sub-resource keys select what, and the IAM action each needs.
Sources: Amazon S3 API Reference; "Actions, resources, and condition keys for Amazon S3".

A row is (method, sub-resource keys, operation, action, action with versionId, handled here). Whatever has no
row is refused. A row that is not handled here is forwarded to the origin unchanged.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Row(NamedTuple):
    method: str
    keys: str
    name: str
    action: str
    versioned_action: str = ""
    handled: bool = False


SERVICE_ROWS: Final = (Row("GET", "", "ListBuckets", "s3:ListAllMyBuckets", handled=True),)

BUCKET_ROWS: Final = (
    Row("GET", "", "ListObjects", "s3:ListBucket", handled=True),
    Row("HEAD", "", "HeadBucket", "s3:ListBucket", handled=True),
    Row("GET", "location", "GetBucketLocation", "s3:GetBucketLocation", handled=True),
    Row("GET", "versions", "ListObjectVersions", "s3:ListBucketVersions", handled=True),
    Row("GET", "uploads", "ListMultipartUploads", "s3:ListBucketMultipartUploads", handled=True),
    Row("POST", "delete", "DeleteObjects", "s3:DeleteObject", handled=True),
    Row("PUT", "", "CreateBucket", "s3:CreateBucket"),
    Row("DELETE", "", "DeleteBucket", "s3:DeleteBucket"),
    Row("GET", "policyStatus", "GetBucketPolicyStatus", "s3:GetBucketPolicyStatus"),
    Row("DELETE", "lifecycle", "DeleteBucketLifecycle", "s3:PutLifecycleConfiguration"),
    Row("DELETE", "policy", "DeleteBucketPolicy", "s3:DeleteBucketPolicy"),
    Row("DELETE", "website", "DeleteBucketWebsite", "s3:DeleteBucketWebsite"),
    *(
        Row(method, key, verb + name, "s3:" + verb + "BucketMetadataTableConfiguration")
        for key, name in (
            ("metadataTable", "BucketMetadataTableConfiguration"),
            ("metadataConfiguration", "BucketMetadataConfiguration"),
        )
        for method, verb in (("POST", "Create"), ("GET", "Get"), ("DELETE", "Delete"))
    ),
    *(
        Row("PUT", key, f"UpdateBucketM{key[1:]}Configuration", f"s3:UpdateBucketM{key[1:]}Configuration")
        for key in ("metadataInventoryTable", "metadataJournalTable", "metadataAnnotationTable")
    ),
)

# Bucket configurations that share one shape: GET, PUT and, where the last column says so, DELETE; the
# operation is Get/Put/Delete + name, the actions s3:Get… and s3:Put… (deleting one needs the Put action).
BUCKET_CONFIGURATIONS: Final = (
    # key, name, the action's noun, has DELETE
    ("abac", "BucketAbac", "BucketAbac", False),
    ("accelerate", "BucketAccelerateConfiguration", "AccelerateConfiguration", False),
    ("acl", "BucketAcl", "BucketAcl", False),
    ("analytics", "BucketAnalyticsConfiguration", "AnalyticsConfiguration", True),
    ("cors", "BucketCors", "BucketCORS", True),
    ("encryption", "BucketEncryption", "EncryptionConfiguration", True),
    (
        "intelligent-tiering",
        "BucketIntelligentTieringConfiguration",
        "IntelligentTieringConfiguration",
        True,
    ),
    ("inventory", "BucketInventoryConfiguration", "InventoryConfiguration", True),
    (
        "lifecycle",
        "BucketLifecycleConfiguration",
        "LifecycleConfiguration",
        False,
    ),  # its DELETE is named otherwise, above
    ("logging", "BucketLogging", "BucketLogging", False),
    ("metrics", "BucketMetricsConfiguration", "MetricsConfiguration", True),
    ("notification", "BucketNotificationConfiguration", "BucketNotification", False),
    ("object-lock", "ObjectLockConfiguration", "BucketObjectLockConfiguration", False),
    ("ownershipControls", "BucketOwnershipControls", "BucketOwnershipControls", True),
    ("policy", "BucketPolicy", "BucketPolicy", False),  # its DELETE has an action of its own, above
    ("publicAccessBlock", "PublicAccessBlock", "BucketPublicAccessBlock", True),
    ("replication", "BucketReplication", "ReplicationConfiguration", True),
    ("requestPayment", "BucketRequestPayment", "BucketRequestPayment", False),
    ("tagging", "BucketTagging", "BucketTagging", True),
    ("versioning", "BucketVersioning", "BucketVersioning", False),
    ("website", "BucketWebsite", "BucketWebsite", False),
)

OBJECT_ROWS: Final = (
    Row("GET", "", "GetObject", "s3:GetObject", "s3:GetObjectVersion", handled=True),
    Row("HEAD", "", "HeadObject", "s3:GetObject", "s3:GetObjectVersion", handled=True),
    Row(
        "GET",
        "attributes",
        "GetObjectAttributes",
        "s3:GetObjectAttributes",
        "s3:GetObjectVersionAttributes",
        handled=True,
    ),
    Row("PUT", "", "PutObject", "s3:PutObject", handled=True),
    Row("DELETE", "", "DeleteObject", "s3:DeleteObject", "s3:DeleteObjectVersion", handled=True),
    Row("POST", "uploads", "CreateMultipartUpload", "s3:PutObject", handled=True),
    Row("PUT", "partNumber uploadId", "UploadPart", "s3:PutObject", handled=True),
    Row("POST", "uploadId", "CompleteMultipartUpload", "s3:PutObject", handled=True),
    Row("DELETE", "uploadId", "AbortMultipartUpload", "s3:AbortMultipartUpload", handled=True),
    Row("GET", "uploadId", "ListParts", "s3:ListMultipartUploadParts", handled=True),
    Row("GET", "acl", "GetObjectAcl", "s3:GetObjectAcl", "s3:GetObjectVersionAcl"),
    Row("PUT", "acl", "PutObjectAcl", "s3:PutObjectAcl", "s3:PutObjectVersionAcl"),
    Row("GET", "tagging", "GetObjectTagging", "s3:GetObjectTagging", "s3:GetObjectVersionTagging"),
    Row("PUT", "tagging", "PutObjectTagging", "s3:PutObjectTagging", "s3:PutObjectVersionTagging"),
    Row(
        "DELETE",
        "tagging",
        "DeleteObjectTagging",
        "s3:DeleteObjectTagging",
        "s3:DeleteObjectVersionTagging",
    ),
    Row("GET", "retention", "GetObjectRetention", "s3:GetObjectRetention", "s3:GetObjectRetention"),
    Row("PUT", "retention", "PutObjectRetention", "s3:PutObjectRetention", "s3:PutObjectRetention"),
    Row("GET", "legal-hold", "GetObjectLegalHold", "s3:GetObjectLegalHold", "s3:GetObjectLegalHold"),
    Row("PUT", "legal-hold", "PutObjectLegalHold", "s3:PutObjectLegalHold", "s3:PutObjectLegalHold"),
    Row("GET", "torrent", "GetObjectTorrent", "s3:GetObjectTorrent", "s3:GetObjectVersionTorrent"),
    Row("POST", "restore", "RestoreObject", "s3:RestoreObject", "s3:RestoreObject"),
    Row("POST", "select", "SelectObjectContent", "s3:GetObject"),
    Row(
        "PUT",
        "encryption",
        "UpdateObjectEncryption",
        "s3:UpdateObjectEncryption",
        "s3:UpdateObjectEncryption",
    ),
    Row(
        "GET",
        "annotation",
        "GetObjectAnnotation",
        "s3:GetObjectAnnotation",
        "s3:GetObjectVersionAnnotation",
    ),
    Row(
        "PUT",
        "annotation",
        "PutObjectAnnotation",
        "s3:PutObjectAnnotation",
        "s3:PutObjectVersionAnnotation",
    ),
    Row(
        "DELETE",
        "annotation",
        "DeleteObjectAnnotation",
        "s3:DeleteObjectAnnotation",
        "s3:DeleteObjectVersionAnnotation",
    ),
)

# Query keys that are parameters, not sub-resources: they never select another operation.
# Everywhere: how the request is signed, and response overrides (only GET and HEAD of an object read those).
SIGNING_KEYS: Final = frozenset({"awsaccesskeyid", "expires", "signature", "content-type", "content-md5"})
LIST_KEYS: Final = frozenset(
    [
        "bucket-region",
        "continuation-token",
        "delimiter",
        "encoding-type",
        "fetch-owner",
        "id",
        "key-marker",
        "list-type",
        "marker",
        "max-buckets",
        "max-keys",
        "max-uploads",
        "prefix",
        "start-after",
        "upload-id-marker",
        "version-id-marker",
    ]
)
READ_KEYS: Final = frozenset(["encoding-type", "max-parts", "part-number-marker", "partNumber", "versionId"])
RESPONSE_KEYS: Final = frozenset(
    [
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
    ]
)
# A write takes exactly what its row names, plus:
WRITE_KEYS: Final = {
    "annotation": frozenset({"annotationName"}),
    "analytics": frozenset({"id"}),
    "intelligent-tiering": frozenset({"id"}),
    "inventory": frozenset({"id"}),
    "metrics": frozenset({"id"}),
    "select": frozenset({"select-type"}),
}
