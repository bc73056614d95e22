"""The protobuf messages of TensorFlow Serving's API, with their descriptors built here.

Names and numbers of fields are those of the public API, so the bytes are the same; nothing generated and
nothing of TensorFlow is imported. The descriptors live in a pool of their own: the modules of
tensorflow-serving-api, which claim the same names in protobuf's default pool, can be used in the same
process.

Every request and response of PredictionService and ModelService, PredictionLog and ModelServerConfig have all
the fields they have in TensorFlow Serving 2.21. Others have only the fields slipway reads: SavedModel and
MetaGraphDef (graphs, functions, objects), the options of SessionRunRequest, the metadata of
SessionRunResponse. protobuf keeps fields it does not know, so these too can be read, changed and written
without loss; the unknown fields are written last then.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import message_factory

from slipway_client.descriptors import Package, make_pool
from slipway_client.dtypes import NUMBERS

# The notation of a message's fields is explained in descriptors.py.
_TENSORFLOW = {
    "TensorShapeProto": "*TensorShapeProto.Dim dim 2, bool unknown_rank 3",
    "TensorShapeProto.Dim": "int64 size 1, string name 2",
    "TensorProto": """
        DataType dtype 1, TensorShapeProto tensor_shape 2, int32 version_number 3, bytes tensor_content 4,
        *float float_val 5, *double double_val 6, *int32 int_val 7, *bytes string_val 8,
        *float scomplex_val 9, *int64 int64_val 10, *bool bool_val 11, *double dcomplex_val 12,
        *int32 half_val 13, *ResourceHandleProto resource_handle_val 14,
        *VariantTensorDataProto variant_val 15, *uint32 uint32_val 16, *uint64 uint64_val 17,
        bytes float8_val 18""",
    "VariantTensorDataProto": "string type_name 1, bytes metadata 2, *TensorProto tensors 3",
    "ResourceHandleProto": """
        string device 1, string container 2, string name 3, uint64 hash_code 4, string maybe_type_name 5,
        *ResourceHandleProto.DtypeAndShape dtypes_and_shapes 6""",
    "ResourceHandleProto.DtypeAndShape": "DataType dtype 1, TensorShapeProto shape 2",
    "NamedTensorProto": "string name 1, TensorProto tensor 2",
    # tf.Example
    "Example": "Features features 1",
    "Features": "<string:Feature> feature 1",
    "Feature": "BytesList bytes_list/kind 1, FloatList float_list/kind 2, Int64List int64_list/kind 3",
    "BytesList": "*bytes value 1",
    "FloatList": "*float value 1",
    "Int64List": "*int64 value 1",
    # signatures
    "SignatureDef": """
        <string:TensorInfo> inputs 1, <string:TensorInfo> outputs 2, string method_name 3,
        <string:TensorProto> defaults 4""",
    "TensorInfo": """
        string name/encoding 1, DataType dtype 2, TensorShapeProto tensor_shape 3,
        TensorInfo.CooSparse coo_sparse/encoding 4, TensorInfo.CompositeTensor composite_tensor/encoding 5""",
    "TensorInfo.CooSparse": """
        string values_tensor_name 1, string indices_tensor_name 2, string dense_shape_tensor_name 3""",
    "TensorInfo.CompositeTensor": "TypeSpecProto type_spec 1, *TensorInfo components 2",
    # Python values in a SavedModel: a function's arguments, what a composite tensor is made of
    "StructuredValue": """
        NoneValue none_value/kind 1, double float64_value/kind 11, sint64 int64_value/kind 12,
        string string_value/kind 13, bool bool_value/kind 14, TensorShapeProto tensor_shape_value/kind 31,
        DataType tensor_dtype_value/kind 32, TensorSpecProto tensor_spec_value/kind 33,
        TypeSpecProto type_spec_value/kind 34, BoundedTensorSpecProto bounded_tensor_spec_value/kind 35,
        ListValue list_value/kind 51, TupleValue tuple_value/kind 52, DictValue dict_value/kind 53,
        NamedTupleValue named_tuple_value/kind 54, TensorProto tensor_value/kind 55,
        TensorProto numpy_value/kind 56""",
    "NoneValue": "",
    "ListValue": "*StructuredValue values 1",
    "TupleValue": "*StructuredValue values 1",
    "DictValue": "<string:StructuredValue> fields 1",
    "PairValue": "string key 1, StructuredValue value 2",
    "NamedTupleValue": "string name 1, *PairValue values 2",
    "TensorSpecProto": "string name 1, TensorShapeProto shape 2, DataType dtype 3",
    "BoundedTensorSpecProto": """
        string name 1, TensorShapeProto shape 2, DataType dtype 3, TensorProto minimum 4,
        TensorProto maximum 5""",
    "TypeSpecProto": """
        TypeSpecProto.TypeSpecClass type_spec_class 1, StructuredValue type_state 2,
        string type_spec_class_name 3, int32 num_flat_components 4""",
    # in part: what a SavedModel's file says of its graphs and functions
    "SavedModel": "int64 saved_model_schema_version 1, *MetaGraphDef meta_graphs 2",
    "MetaGraphDef": """
        MetaGraphDef.MetaInfoDef meta_info_def 1, GraphDef graph_def 2, SaverDef saver_def 3,
        <string:SignatureDef> signature_def 5, *AssetFileDef asset_file_def 6,
        SavedObjectGraph object_graph_def 7""",
    "SaverDef": "string restore_op_name 3",
    "AssetFileDef": "TensorInfo tensor_info 1, string filename 2",
    "MetaGraphDef.MetaInfoDef": "*string tags 4, string tensorflow_version 5",
    "GraphDef": "*NodeDef node 1, FunctionDefLibrary library 2",
    "NodeDef": "string name 1, string op 2, <string:AttrValue> attr 5",
    "AttrValue": "AttrValue.ListValue list/value 1, NameAttrList func/value 10",
    "AttrValue.ListValue": "*NameAttrList func 9",
    "NameAttrList": "string name 1",
    "FunctionDefLibrary": "*FunctionDef function 1",
    "FunctionDef": "OpDef signature 1, *NodeDef node_def 3",
    "OpDef": "string name 1",
    "SavedObjectGraph": """
        *SavedObject nodes 1, <string:SavedConcreteFunction> concrete_functions 2""",
    "SavedObject": """
        *TrackableObjectGraph.TrackableObject.ObjectReference children 1, SavedFunction function/kind 6,
        SavedBareConcreteFunction bare_concrete_function/kind 8""",
    "TrackableObjectGraph": "",
    "TrackableObjectGraph.TrackableObject": "",
    "TrackableObjectGraph.TrackableObject.ObjectReference": "int32 node_id 1, string local_name 2",
    "SavedFunction": "*string concrete_functions 1",
    "SavedBareConcreteFunction": "string concrete_function_name 1",
    "SavedConcreteFunction": "StructuredValue canonicalized_input_signature 3",
    # in part: what a recorded session run may hold; nothing reads it
    "RunOptions": "",
    "RunMetadata": "",
}
_SERVING = {
    "ModelSpec": """
        string name 1, google.protobuf.Int64Value version/version_choice 2, string signature_name 3,
        string version_label/version_choice 4""",
    "PredictRequest": """
        ModelSpec model_spec 1, <string:tensorflow.TensorProto> inputs 2, *string output_filter 3,
        PredictStreamedOptions predict_streamed_options 5, ?bytes client_id 6,
        ?PredictRequest.RequestOptions request_options 7""",
    "PredictRequest.RequestOptions": """
        ?bytes client_id 1, ?PredictRequest.RequestOptions.DeterministicMode deterministic_mode 2,
        ?bool return_additional_arrays_from_prefill 3, *int64 return_stoptokens 4, ?int64 max_cache_length 6,
        ?bool return_all_stoptokens 9, ?PredictRequest.RequestOptions.Handshake handshake 13""",
    "PredictRequest.RequestOptions.Handshake": "int64 estimated_payload_bytes 1",
    "PredictStreamedOptions": """
        PredictStreamedOptions.RequestState request_state 1, <string:int32> split_dimensions 2,
        bool return_single_response 3""",
    "PredictResponse": "<string:tensorflow.TensorProto> outputs 1, ModelSpec model_spec 2",
    "Input": "ExampleList example_list/kind 1, ExampleListWithContext example_list_with_context/kind 2",
    "ExampleList": "*tensorflow.Example examples 1",
    "ExampleListWithContext": "*tensorflow.Example examples 1, tensorflow.Example context 2",
    "ClassificationRequest": "ModelSpec model_spec 1, Input input 2",
    "ClassificationResponse": "ClassificationResult result 1, ModelSpec model_spec 2",
    "ClassificationResult": "*Classifications classifications 1",
    "Classifications": "*Class classes 1",
    "Class": "string label 1, float score 2",
    "RegressionRequest": "ModelSpec model_spec 1, Input input 2",
    "RegressionResponse": "RegressionResult result 1, ModelSpec model_spec 2",
    "RegressionResult": "*Regression regressions 1",
    "Regression": "float value 1",
    "MultiInferenceRequest": "*InferenceTask tasks 1, Input input 2",
    "MultiInferenceResponse": "*InferenceResult results 1",
    "InferenceTask": "ModelSpec model_spec 1, string method_name 2",
    "InferenceResult": """
        ModelSpec model_spec 1, ClassificationResult classification_result/result 2,
        RegressionResult regression_result/result 3""",
    "GetModelMetadataRequest": "ModelSpec model_spec 1, *string metadata_field 2",
    "GetModelMetadataResponse": "ModelSpec model_spec 1, <string:google.protobuf.Any> metadata 2",
    "SignatureDefMap": "<string:tensorflow.SignatureDef> signature_def 1",
    "GetModelStatusRequest": "ModelSpec model_spec 1",
    "GetModelStatusResponse": "*ModelVersionStatus model_version_status 1 as_is",
    "ModelVersionStatus": "int64 version 1, ModelVersionStatus.State state 2, StatusProto status 3",
    "StatusProto": "tensorflow.error.Code error_code 1 as_is, string error_message 2 as_is",
    "ReloadConfigRequest": "ModelServerConfig config 1, *string metric_names 2",
    "ReloadConfigResponse": "StatusProto status 1, *Metric metric 2",
    "Metric": "string name 1, int64 int64_value_increase/value_increase 2",
    # configuration files
    "ModelServerConfig": """
        ModelConfigList model_config_list/config 1, google.protobuf.Any custom_model_config/config 2""",
    "ModelConfigList": "*ModelConfig config 1",
    "ModelConfig": """
        string name 1, string base_path 2, ModelType model_type 3, string model_platform 4,
        LoggingConfig logging_config 6,
        FileSystemStoragePathSourceConfig.ServableVersionPolicy model_version_policy 7,
        <string:int64> version_labels 8""",
    "FileSystemStoragePathSourceConfig": "",
    "FileSystemStoragePathSourceConfig.ServableVersionPolicy": """
        FileSystemStoragePathSourceConfig.ServableVersionPolicy.Latest latest/policy_choice 100,
        FileSystemStoragePathSourceConfig.ServableVersionPolicy.All all/policy_choice 101,
        FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific specific/policy_choice 102""",
    "FileSystemStoragePathSourceConfig.ServableVersionPolicy.Latest": "uint32 num_versions 1",
    "FileSystemStoragePathSourceConfig.ServableVersionPolicy.All": "",
    "FileSystemStoragePathSourceConfig.ServableVersionPolicy.Specific": "*int64 versions 1",
    "LoggingConfig": """
        LogCollectorConfig log_collector_config 1, SamplingConfig sampling_config 2,
        google.protobuf.Any custom_logging_config 3""",
    "LogCollectorConfig": "string type 1, string filename_prefix 2",
    "SamplingConfig": """
        double sampling_rate 1, int32 attributes 2, *PerTaskSamplingConfig per_task_sampling_configs 3""",
    "PerTaskSamplingConfig": "string dc 1, ?int32 task_index 2, double sampling_rate 3",
    "BatchingParameters": """
        google.protobuf.Int64Value max_batch_size 1, google.protobuf.Int64Value batch_timeout_micros 2,
        google.protobuf.Int64Value max_enqueued_batches 3, google.protobuf.Int64Value num_batch_threads 4,
        google.protobuf.StringValue thread_pool_name 5, *int64 allowed_batch_sizes 6,
        bool pad_variable_length_inputs 7, google.protobuf.BoolValue enable_large_batch_splitting 8,
        google.protobuf.Int64Value max_execution_batch_size 9""",
    "MonitoringConfig": "PrometheusConfig prometheus_config 1",
    "PrometheusConfig": "bool enable 1, string path 2",
    "SSLConfig": "string server_key 1, string server_cert 2, string custom_ca 3, bool client_verify 4",
    # recorded requests: warm-up
    "PredictionLog": """
        LogMetadata log_metadata 1, ClassifyLog classify_log/log_type 2, RegressLog regress_log/log_type 3,
        MultiInferenceLog multi_inference_log/log_type 4, SessionRunLog session_run_log/log_type 5,
        PredictLog predict_log/log_type 6, PredictStreamedLog predict_streamed_log/log_type 7""",
    "LogMetadata": """
        ModelSpec model_spec 1, SamplingConfig sampling_config 2, *string saved_model_tags 3,
        int64 timestamp_secs 4, string dc 5, string request_origin 6, string request_criticality 7,
        int64 safe_aggregation_privacy_key 8""",
    "ClassifyLog": "ClassificationRequest request 1, ClassificationResponse response 2",
    "RegressLog": "RegressionRequest request 1, RegressionResponse response 2",
    "MultiInferenceLog": "MultiInferenceRequest request 1, MultiInferenceResponse response 2",
    "SessionRunLog": "SessionRunRequest request 1, SessionRunResponse response 2",
    "SessionRunRequest": """
        ModelSpec model_spec 1, *tensorflow.NamedTensorProto feed 2, *string fetch 3, *string target 4,
        tensorflow.RunOptions options 5, bool tensor_name_is_alias 6""",
    "SessionRunResponse": """
        *tensorflow.NamedTensorProto tensor 1, tensorflow.RunMetadata metadata 2, ModelSpec model_spec 3""",
    "PredictLog": "PredictRequest request 1, PredictResponse response 2",
    "PredictStreamedLog": "*PredictRequest request 1, *PredictResponse response 2",
}
_ERROR_CODES = {
    "OK": 0,
    "CANCELLED": 1,
    "UNKNOWN": 2,
    "INVALID_ARGUMENT": 3,
    "DEADLINE_EXCEEDED": 4,
    "NOT_FOUND": 5,
    "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7,
    "RESOURCE_EXHAUSTED": 8,
    "FAILED_PRECONDITION": 9,
    "ABORTED": 10,
    "OUT_OF_RANGE": 11,
    "UNIMPLEMENTED": 12,
    "INTERNAL": 13,
    "UNAVAILABLE": 14,
    "DATA_LOSS": 15,
    "UNAUTHENTICATED": 16,
    "DO_NOT_USE_RESERVED_FOR_FUTURE_EXPANSION_USE_DEFAULT_IN_SWITCH_INSTEAD_": 20,
}
_TYPE_SPECS = {
    "UNKNOWN": 0,
    "SPARSE_TENSOR_SPEC": 1,
    "INDEXED_SLICES_SPEC": 2,
    "RAGGED_TENSOR_SPEC": 3,
    "TENSOR_ARRAY_SPEC": 4,
    "DATA_DATASET_SPEC": 5,
    "DATA_ITERATOR_SPEC": 6,
    "OPTIONAL_SPEC": 7,
    "PER_REPLICA_SPEC": 8,
    "VARIABLE_SPEC": 9,
    "ROW_PARTITION_SPEC": 10,
    "REGISTERED_TYPE_SPEC": 12,
    "EXTENSION_TYPE_SPEC": 13,
}
_STATES = {"UNKNOWN": 0, "START": 10, "LOADING": 20, "AVAILABLE": 30, "UNLOADING": 40, "END": 50}
MODEL_TYPES = {"MODEL_TYPE_UNSPECIFIED": 0, "TENSORFLOW": 1, "OTHER": 2}
_DETERMINISTIC = {"DETERMINISTIC_MODE_UNSPECIFIED": 0, "FIXED_DECODER_SLOT": 1}

POOL = make_pool(
    (
        Package("tensorflow.error", {}, {"Code": _ERROR_CODES}),
        Package("tensorflow", _TENSORFLOW, {"DataType": NUMBERS, "TypeSpecProto.TypeSpecClass": _TYPE_SPECS}),
        Package(
            "tensorflow.serving",
            _SERVING,
            {
                "ModelType": MODEL_TYPES,
                "ModelVersionStatus.State": _STATES,
                "PredictStreamedOptions.RequestState": {"NONE": 0, "SPLIT": 1, "END_SPLIT": 2, "CANCEL": 3},
                "PredictRequest.RequestOptions.DeterministicMode": _DETERMINISTIC,
            },
        ),
        Package(
            "grpc.health.v1",
            {
                "HealthCheckRequest": "string service 1",
                "HealthCheckResponse": "HealthCheckResponse.ServingStatus status 1",
            },
            {
                "HealthCheckResponse.ServingStatus": {
                    "UNKNOWN": 0,
                    "SERVING": 1,
                    "NOT_SERVING": 2,
                    "SERVICE_UNKNOWN": 3,
                }
            },
        ),
    )
)


def message_class(name: str) -> Any:
    """The class of a message by its full name. Raises KeyError when the pool has no such message."""
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))


TensorProto = message_class("tensorflow.TensorProto")
Example = message_class("tensorflow.Example")
MetaGraphDef = message_class("tensorflow.MetaGraphDef")
SavedModel = message_class("tensorflow.SavedModel")

ModelSpec = message_class("tensorflow.serving.ModelSpec")
PredictRequest = message_class("tensorflow.serving.PredictRequest")
PredictResponse = message_class("tensorflow.serving.PredictResponse")
Input = message_class("tensorflow.serving.Input")
ClassificationRequest = message_class("tensorflow.serving.ClassificationRequest")
ClassificationResponse = message_class("tensorflow.serving.ClassificationResponse")
RegressionRequest = message_class("tensorflow.serving.RegressionRequest")
RegressionResponse = message_class("tensorflow.serving.RegressionResponse")
MultiInferenceRequest = message_class("tensorflow.serving.MultiInferenceRequest")
MultiInferenceResponse = message_class("tensorflow.serving.MultiInferenceResponse")
GetModelMetadataRequest = message_class("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = message_class("tensorflow.serving.GetModelMetadataResponse")
SignatureDefMap = message_class("tensorflow.serving.SignatureDefMap")
GetModelStatusRequest = message_class("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = message_class("tensorflow.serving.GetModelStatusResponse")
ModelVersionStatus = message_class("tensorflow.serving.ModelVersionStatus")
ReloadConfigRequest = message_class("tensorflow.serving.ReloadConfigRequest")
ReloadConfigResponse = message_class("tensorflow.serving.ReloadConfigResponse")
ModelServerConfig = message_class("tensorflow.serving.ModelServerConfig")
SSLConfig = message_class("tensorflow.serving.SSLConfig")
MonitoringConfig = message_class("tensorflow.serving.MonitoringConfig")
BatchingParameters = message_class("tensorflow.serving.BatchingParameters")
PredictionLog = message_class("tensorflow.serving.PredictionLog")

HealthCheckRequest = message_class("grpc.health.v1.HealthCheckRequest")
HealthCheckResponse = message_class("grpc.health.v1.HealthCheckResponse")
